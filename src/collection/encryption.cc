#include "collection/encryption.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "crypto/sealer.h"
#include "storage/sealed_store.h"

namespace holdfast::collection {

using crypto::SecretKey;
using storage::ObjectKey;
using storage::ObjectStore;

namespace {

std::string wal_directory(std::uint64_t system_identifier) {
  return fmt::format("{}/{}", kWalDirectory, system_identifier);
}

/// The first has no number, as in CockroachDB. `directory` is empty for a store that is one.
ObjectKey info_key(std::string_view directory, unsigned number) {
  const std::string_view slash = directory.empty() ? "" : "/";
  if (number == 1) return fmt::format("{}{}{}", directory, slash, kEncryptionInfoName);
  return fmt::format("{}{}{}-{}", directory, slash, kEncryptionInfoName, number);
}

/// What the wrapped keys of a directory are bound to.
std::string place_of(std::string_view directory) {
  return fmt::format("the data key of {}", directory);
}
/// The same of the WAL's key, with all that the information says in clear besides. That there is no
/// such key is sealed, too: who may only write to the collection could else have plain WAL taken
/// for the chain's, or what is added to it locked otherwise than the chain.
std::string wal_place_of(std::string_view full, const proto::EncryptionInfo& info) {
  const std::string_view what = info.version() == kEncryptionInfoWithoutWal ? "no key" : "the key";
  std::string place =
      fmt::format("{} of the WAL of {} in {}", what, info.system_identifier(), full);
  // The mode is of any bytes here: it goes last, so that no two mean the same.
  if (!info.object_lock().empty() || info.retain_for_seconds() != 0) {
    place += fmt::format(", locked for {} s: {}", info.retain_for_seconds(), info.object_lock());
  }
  return place;
}

/// What encrypts the WAL's key beside a chain's.
crypto::Sealer wal_sealer(const SecretKey& chain_key) {
  return crypto::Sealer(crypto::derive_key(chain_key, {}, "holdfast wal key").bytes());
}

/// All of a directory, as one: absent when there is none.
std::optional<proto::EncryptionInfo> read_info(ObjectStore& store, std::string_view directory,
                                               const Stop& stop) {
  std::optional<proto::EncryptionInfo> all;
  for (unsigned number = 1; number <= kMaxEncryptionInfos; ++number) {
    const ObjectKey key = info_key(directory, number);
    try {
      const auto stored = get_whole(store, key, kMaxEncryptionInfoBytes, stop);
      if (!stored) break;
      if (!all) {
        all = decode_encryption_info(*stored, key);
        continue;
      }
      all->mutable_keys()->MergeFrom(decode_encryption_info(*stored, key).keys());
    } catch (const Error& error) {
      if (number == 1 || error.state() != sqlstate::kDataCorrupted) throw;
      // What was added must not keep what was there from being opened: who may only add to a
      // collection could lock it otherwise.
      log::warning("ignoring \"{}\": {}", key, error.message());
    }
  }
  return all;
}

/// False when one was there already.
bool write_info(ObjectStore& store, const ObjectKey& key, const proto::EncryptionInfo& info,
                const Stop& stop) {
  const Bytes bytes = seal_envelope(as_bytes(info.SerializeAsString()));
  return store.put(key, bytes, storage::PutMode::OnlyIfAbsent, stop) == storage::PutResult::Stored;
}

/// Adds one more way to open `key`.
void append_info(ObjectStore& store, std::string_view directory, const SecretKey& key,
                 KeyGuard& guard, const Stop& stop) {
  proto::EncryptionInfo info;
  info.set_version(kEncryptionInfoVersion);
  guard.wrap(key, place_of(directory), info, stop);
  for (unsigned number = 2; number <= kMaxEncryptionInfos; ++number) {
    if (write_info(store, info_key(directory, number), info, stop)) return;
  }
  throw Error(sqlstate::kFeatureNotSupported,
              fmt::format("\"{}\" has {} objects of encryption information already", directory,
                          kMaxEncryptionInfos))
      .hint("Take a full backup with BACKUP INTO.");
}

Error not_encrypted(std::string_view full) {
  // CockroachDB's words (reference, section 4.4).
  return Error(sqlstate::kInvalidParameterValue,
               "could not find or read encryption information: ENCRYPTION-INFO not found")
      .detail(fmt::format("Backup \"{}\" does not appear to be encrypted.", full))
      .hint("Leave out encryption_passphrase and kms.");
}

/// The WAL's key that lies beside a chain's; empty where that is said to have none.
Bytes open_wal_key(const proto::EncryptionInfo& info, std::string_view full,
                   const SecretKey& chain_key) {
  // That there is none is sealed, too: who may only write to the collection could else have plain
  // WAL taken for the chain's.
  const bool without = info.version() == kEncryptionInfoWithoutWal;
  Bytes wal_key = wal_sealer(chain_key).open(as_bytes(info.wal_key()), wal_place_of(full, info));
  if (wal_key.size() == (without ? 0 : SecretKey::kBytes)) return wal_key;
  throw Error(sqlstate::kDataCorrupted, fmt::format("\"{}\" is corrupt", info_key(full, 1)));
}

SecretKey unwrap(KeyGuard& guard, const proto::EncryptionInfo& info, std::string_view directory,
                 const Stop& stop) {
  const auto key = guard.unwrap(info, place_of(directory), stop);
  if (!key) throw guard.refused();
  return *key;
}

CollectionKeys open_info(const proto::EncryptionInfo& info, std::string_view full, KeyGuard& guard,
                         const Stop& stop) {
  CollectionKeys keys;
  keys.chain.emplace(
      CollectionKeys::Chain{.full = std::string(full), .key = unwrap(guard, info, full, stop)});
  Bytes wal_key = open_wal_key(info, full, keys.chain->key);
  if (wal_key.empty()) return keys;
  keys.wal.emplace(CollectionKeys::Wal{.system_identifier = info.system_identifier(),
                                       .key = SecretKey(wal_key)});
  crypto::wipe(wal_key);
  return keys;
}

Error other_wal(std::string_view directory, std::string_view what) {
  return Error(sqlstate::kObjectNotInPrerequisiteState,
               fmt::format("cannot mix encrypted and plain WAL of one server in \"{}\"", directory))
      .detail(std::string(what))
      .hint("Give the backups a collection of their own, or encrypt all of them alike.");
}

void require_no_wal(ObjectStore& store, std::uint64_t system_identifier, const Stop& stop) {
  const std::string directory = wal_directory(system_identifier);
  const std::string own = info_key(directory, 1);
  bool encrypted = false;
  bool plain = false;
  store.list(
      directory,
      [&](const storage::ObjectInfo& info) {
        (info.key.starts_with(own) ? encrypted : plain) = true;
      },
      stop);
  // Who made it encrypted meanwhile did so before the first of the others.
  if (plain && !encrypted) {
    throw other_wal(directory, "The WAL of this server that is there is not encrypted.");
  }
}

/// Stores `key` as that of the server's WAL. False when one was there already.
bool write_wal_info(ObjectStore& store, std::uint64_t system_identifier, const SecretKey& key,
                    KeyGuard& guard, const Stop& stop) {
  const std::string directory = wal_directory(system_identifier);
  proto::EncryptionInfo info;
  info.set_version(kEncryptionInfoVersion);
  guard.wrap(key, place_of(directory), info, stop);
  return write_info(store, info_key(directory, 1), info, stop);
}

bool belongs(const ObjectKey& key, std::string_view directory) {
  return key.size() > directory.size() && key.starts_with(directory) &&
         key[directory.size()] == '/';
}

bool stays_clear(const ObjectKey& key) {
  const std::string_view name = std::string_view(key).substr(key.rfind('/') + 1);
  return name.starts_with(kLockPrefix) || name.starts_with(kEncryptionInfoName) ||
         name == kIncrementalLocationName || name == kFullLocationName || name == kWalArchiveMark;
}

/// Which key an object has. Thread-safe.
class KeysByName {
 public:
  explicit KeysByName(CollectionKeys keys) : keys_(std::move(keys)) {
    if (keys_.chain) incrementals_ = incrementals_of(keys_.chain->full);
    if (keys_.wal) wal_ = wal_directory(keys_.wal->system_identifier);
  }

  const SecretKey* find(const ObjectKey& key) const {
    if (stays_clear(key)) return nullptr;
    if (keys_.chain && (belongs(key, keys_.chain->full) || belongs(key, incrementals_))) {
      return &keys_.chain->key;
    }
    if (keys_.wal && belongs(key, wal_)) return &keys_.wal->key;
    return nullptr;
  }

 private:
  CollectionKeys keys_;
  std::string incrementals_;
  std::string wal_;
};

}  // namespace

std::string serialize_keys(const CollectionKeys& keys) {
  proto::CollectionKeys message;
  if (keys.chain) {
    message.set_full(keys.chain->full);
    message.set_chain_key(std::string(as_text(keys.chain->key.bytes())));
  }
  if (keys.wal) {
    message.set_system_identifier(keys.wal->system_identifier);
    message.set_wal_key(std::string(as_text(keys.wal->key.bytes())));
  }
  std::string bytes = message.SerializeAsString();
  crypto::wipe(*message.mutable_chain_key());
  crypto::wipe(*message.mutable_wal_key());
  return bytes;
}

CollectionKeys parse_keys(std::string_view bytes) {
  proto::CollectionKeys message;
  const auto whole = [](const std::string& key) {
    return key.empty() || key.size() == SecretKey::kBytes;
  };
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      !whole(message.chain_key()) || !whole(message.wal_key())) {
    throw Error(sqlstate::kInternalError, "the keys of the job cannot be read");
  }
  CollectionKeys keys;
  if (!message.chain_key().empty()) {
    keys.chain.emplace(CollectionKeys::Chain{.full = message.full(),
                                             .key = SecretKey(as_bytes(message.chain_key()))});
  }
  if (!message.wal_key().empty()) {
    keys.wal.emplace(CollectionKeys::Wal{.system_identifier = message.system_identifier(),
                                         .key = SecretKey(as_bytes(message.wal_key()))});
  }
  crypto::wipe(*message.mutable_chain_key());
  crypto::wipe(*message.mutable_wal_key());
  return keys;
}

std::unique_ptr<ObjectStore> with_keys(std::unique_ptr<ObjectStore> store, CollectionKeys keys) {
  if (keys.empty()) return store;
  // The store's last copy of the function owns it.
  auto by_name = std::make_shared<const KeysByName>(std::move(keys));
  return std::make_unique<storage::SealedStore>(
      std::move(store), [by_name](const ObjectKey& key) { return by_name->find(key); });
}

bool is_encrypted(ObjectStore& store, std::string_view full, const Stop& stop) {
  return store.stat(info_key(full, 1), stop).has_value();
}

void require_key_stored(ObjectStore& store, const CollectionKeys& keys, const Stop& stop) {
  if (!keys.chain) return;
  const std::string& full = keys.chain->full;
  const auto info = read_info(store, full, stop);
  if (!info) {
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("\"{}\" does not exist any more", info_key(full, 1)))
        .detail("Without it nothing could open the backup.")
        .hint("Take a new full backup with BACKUP INTO.");
  }
  try {
    Bytes wal_key = open_wal_key(*info, full, keys.chain->key);
    crypto::wipe(wal_key);
  } catch (const Error&) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("\"{}\" is not that of this backup any more", info_key(full, 1)))
        .detail("What it opens is another data key, or it is damaged.")
        .hint("Take a new full backup with BACKUP INTO.");
  }
}

CollectionKeys open_chain(ObjectStore& store, std::string_view full, KeyGuard* guard,
                          const Stop& stop) {
  if (guard == nullptr) {
    if (is_encrypted(store, full, stop)) throw needs_key(full);
    return {};
  }
  const auto info = read_info(store, full, stop);
  if (!info) throw not_encrypted(full);
  return open_info(*info, full, *guard, stop);
}

CollectionKeys open_chain_by(ObjectStore& info_directory, std::string_view full, KeyGuard& guard,
                             const Stop& stop) {
  const auto info = read_info(info_directory, {}, stop);
  if (info) return open_info(*info, full, guard, stop);
  throw not_encrypted(full)
      .detail(fmt::format("\"{}\" has no {}.", info_directory.description(), kEncryptionInfoName))
      .hint("encryption_info_dir names the directory of the full backup.");
}

std::optional<CollectionKeys::Wal> open_wal(ObjectStore& store, std::uint64_t system_identifier,
                                            KeyGuard& guard, WalKey make, const Stop& stop) {
  const std::string directory = wal_directory(system_identifier);
  const auto open = [&]() -> std::optional<CollectionKeys::Wal> {
    const auto info = read_info(store, directory, stop);
    if (!info) return std::nullopt;
    try {
      return CollectionKeys::Wal{.system_identifier = system_identifier,
                                 .key = unwrap(guard, *info, directory, stop)};
    } catch (Error& error) {
      if (error.state() == sqlstate::kInvalidParameterValue) {
        error.detail(fmt::format(
            "The collection has WAL of this server in \"{}\", encrypted with another key.",
            directory));
        error.hint("Use the same key, or another collection.");
      }
      throw;
    }
  };
  if (auto there = open()) return there;
  require_no_wal(store, system_identifier, stop);
  if (make == WalKey::Find) return std::nullopt;
  CollectionKeys::Wal made{.system_identifier = system_identifier, .key = SecretKey::random()};
  if (write_wal_info(store, system_identifier, made.key, guard, stop)) return made;
  return open();  // somebody else's was first
}

namespace {

/// Stores a new chain's key in its directory. False when there is one already.
bool write_chain_info(ObjectStore& store, std::string_view full, std::uint64_t system_identifier,
                      const CollectionKeys& keys, KeyGuard& guard, const RecordedLock& lock,
                      const Stop& stop) {
  proto::EncryptionInfo info;
  info.set_version(keys.wal ? kEncryptionInfoVersion : kEncryptionInfoWithoutWal);
  info.set_system_identifier(system_identifier);
  info.set_object_lock(lock.mode);
  info.set_retain_for_seconds(lock.retain_for_seconds);
  const crypto::Sealer sealer = wal_sealer(keys.chain->key);
  const Bytes wal_key =
      sealer.seal(keys.wal ? keys.wal->key.bytes() : ByteView(), wal_place_of(full, info));
  info.set_wal_key(std::string(as_text(wal_key)));
  guard.wrap(keys.chain->key, place_of(full), info, stop);
  return write_info(store, info_key(full, 1), info, stop);
}

/// open_chain() for a writer.
CollectionKeys open_own_chain(ObjectStore& store, std::string_view full,
                              std::uint64_t system_identifier, KeyGuard& guard, const Stop& stop) {
  const auto info = read_info(store, full, stop);
  if (!info) throw not_encrypted(full);
  CollectionKeys keys = open_info(*info, full, guard, stop);
  if (info->system_identifier() != system_identifier) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("backup \"{}\" is of another cluster", full))
        .detail(fmt::format("Its system identifier is {}, this server's {}.",
                            info->system_identifier(), system_identifier));
  }
  return keys;
}

}  // namespace

CollectionKeys make_chain(ObjectStore& store, std::string_view full,
                          std::uint64_t system_identifier, KeyGuard& guard, const Stop& stop,
                          const RecordedLock& lock) {
  CollectionKeys keys;
  keys.wal = open_wal(store, system_identifier, guard, WalKey::Make, stop);
  keys.chain.emplace(CollectionKeys::Chain{.full = std::string(full), .key = SecretKey::random()});
  if (write_chain_info(store, full, system_identifier, keys, guard, lock, stop)) return keys;
  // Of a backup that did not end, or that begins at the same time: its lock decides.
  return continue_chain(store, full, system_identifier, guard, stop);
}

CollectionKeys make_scoped_chain(ObjectStore& store, std::string_view full,
                                 std::uint64_t system_identifier, KeyGuard& guard, const Stop& stop,
                                 const RecordedLock& lock) {
  CollectionKeys keys;
  keys.chain.emplace(CollectionKeys::Chain{.full = std::string(full), .key = SecretKey::random()});
  if (write_chain_info(store, full, system_identifier, keys, guard, lock, stop)) return keys;
  return continue_scoped_chain(store, full, system_identifier, guard, stop);
}

CollectionKeys continue_scoped_chain(ObjectStore& store, std::string_view full,
                                     std::uint64_t system_identifier, KeyGuard& guard,
                                     const Stop& stop) {
  CollectionKeys keys = open_own_chain(store, full, system_identifier, guard, stop);
  keys.wal.reset();
  return keys;
}

CollectionKeys continue_chain(ObjectStore& store, std::string_view full,
                              std::uint64_t system_identifier, KeyGuard& guard, const Stop& stop) {
  CollectionKeys keys = open_own_chain(store, full, system_identifier, guard, stop);
  // One of databases or tables, which the layer's scope is compared with later.
  if (!keys.wal) return keys;
  auto wal = open_wal(store, system_identifier, guard, WalKey::Find, stop);
  if (!wal) {
    // Somebody removed all WAL. What comes must have the chain's key for it again.
    write_wal_info(store, system_identifier, keys.wal->key, guard, stop);
    wal = open_wal(store, system_identifier, guard, WalKey::Find, stop);
  }
  if (!wal || !wal->key.equals(keys.wal->key)) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("the WAL in the collection is not that of backup \"{}\"", full))
        .detail("It is encrypted with another data key.")
        .hint("Take a full backup with BACKUP INTO.");
  }
  return keys;
}

namespace {

struct OpenedInfo {
  proto::EncryptionInfo info;
  CollectionKeys keys;
};

OpenedInfo open_to_add(ObjectStore& store, std::string_view full, KeyGuard& old, const Stop& stop) {
  auto info = read_info(store, full, stop);
  if (!info) throw not_encrypted(full);
  if (!old.unwrap(*info, place_of(full), stop)) throw old.refused_to_add();
  CollectionKeys keys = open_info(*info, full, old, stop);
  return {.info = std::move(*info), .keys = std::move(keys)};
}

}  // namespace

RecordedLock recorded_lock(ObjectStore& store, std::string_view full, KeyGuard& guard,
                           const Stop& stop) {
  const OpenedInfo opened = open_to_add(store, full, guard, stop);
  return {.mode = opened.info.object_lock(),
          .retain_for_seconds = opened.info.retain_for_seconds()};
}

void add_guard(ObjectStore& store, std::string_view full, KeyGuard& old, KeyGuard& added,
               const Stop& stop) {
  const CollectionKeys keys = open_to_add(store, full, old, stop).keys;
  if (keys.wal) {
    const std::string wal = wal_directory(keys.wal->system_identifier);
    // Before the chain's own: who can open that one can go on with all.
    const auto wal_info = read_info(store, wal, stop);
    if (wal_info && !added.unwrap(*wal_info, place_of(wal), stop)) {
      append_info(store, wal, keys.wal->key, added, stop);
    }
  }
  append_info(store, full, keys.chain->key, added, stop);
}

std::optional<ChainMark> read_chain_mark(ObjectStore& store, std::string_view full,
                                         const Stop& stop) {
  const auto info = read_info(store, full, stop);
  if (!info) return std::nullopt;
  return ChainMark{.system_identifier = info->system_identifier(),
                   .own_wal = info->version() == kEncryptionInfoWithoutWal};
}

bool is_wal_encrypted(ObjectStore& store, std::uint64_t system_identifier, const Stop& stop) {
  return store.stat(info_key(wal_directory(system_identifier), 1), stop).has_value();
}

void require_no_key(ObjectStore& store, std::uint64_t system_identifier, const Stop& stop) {
  if (!is_wal_encrypted(store, system_identifier, stop)) return;
  throw needs_key(wal_directory(system_identifier));
}

void require_plain_wal(ObjectStore& store, std::uint64_t system_identifier, const Stop& stop) {
  if (!is_wal_encrypted(store, system_identifier, stop)) return;
  throw other_wal(wal_directory(system_identifier),
                  "The WAL of this server that is there is encrypted.");
}

proto::EncryptionInfo decode_encryption_info(ByteView stored, std::string_view object) {
  const Bytes plain = open_envelope(stored, object);
  proto::EncryptionInfo info;
  if (!info.ParseFromArray(plain.data(), static_cast<int>(plain.size()))) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("\"{}\" is corrupt", object))
        .detail("It is no encryption information.");
  }
  if (info.version() > kEncryptionInfoWithoutWal) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("\"{}\" has version {}, which is newer than this holdfast", object,
                            info.version()))
        .hint("Use the holdfast that wrote it, or a newer one.");
  }
  return info;
}

Error needs_key(std::string_view object) {
  // CockroachDB's words (reference, section 4.4).
  return Error(sqlstate::kInvalidParameterValue,
               "file appears encrypted -- try specifying one of \"encryption_passphrase\" or "
               "\"kms\"")
      .detail(fmt::format("\"{}\" is encrypted.", object));
}

}  // namespace holdfast::collection
