#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/stop.h"
#include "collection/key_guard.h"
#include "crypto/secret_key.h"
#include "encryption.pb.h"
#include "storage/object_store.h"

/// Encrypted collections: which key an object has, and where the keys are kept.
/// docs/formats/encryption.md. Each chain has a data key, and so has the WAL of each server.
namespace holdfast::collection {

/// What a job needs to read and write one chain and its server's WAL. Empty: nothing is encrypted.
struct CollectionKeys {
  struct Chain {
    std::string full;  ///< "2026/11/20-223000.00"
    crypto::SecretKey key;
  };
  struct Wal {
    std::uint64_t system_identifier = 0;
    crypto::SecretKey key;
  };
  std::optional<Chain> chain;
  std::optional<Wal> wal;

  bool empty() const { return !chain && !wal; }
};

/// The lock that `store` gives the objects of a chain, as collection::object_lock() takes it.
struct RecordedLock {
  std::string mode = {};
  std::uint64_t retain_for_seconds = 0;
};

/// For a job's specification, which is stored encrypted.
std::string serialize_keys(const CollectionKeys& keys);
/// Throws kInternalError when `bytes` are none. Empty for an empty text.
CollectionKeys parse_keys(std::string_view bytes);

/// `store` with everything of the chain and the WAL encrypted; `store` itself where `keys` is
/// empty. Stays in clear: LATEST, locks, ENCRYPTION-INFO, what says where incrementals are, the
/// mark of a WAL archive, and whatever belongs to other chains.
std::unique_ptr<storage::ObjectStore> with_keys(std::unique_ptr<storage::ObjectStore> store,
                                                CollectionKeys keys);

/// Whether the chain of `full` is, or is about to be, encrypted.
bool is_encrypted(storage::ObjectStore& store, std::string_view full, const Stop& stop);

/// For whoever has `keys` already and is about to write with them: throws kUndefinedFile when what
/// opens the key of their chain is not in its directory any more, kObjectNotInPrerequisiteState
/// when it is another key's. Fine without keys.
void require_key_stored(storage::ObjectStore& store, const CollectionKeys& keys, const Stop& stop);

/// The keys of an existing chain. `guard` is null when none was given. Throws the reference's
/// errors: an encrypted chain without a guard, a plain one with one, the wrong one.
CollectionKeys open_chain(storage::ObjectStore& store, std::string_view full, KeyGuard* guard,
                          const Stop& stop);

/// open_chain() with the ENCRYPTION-INFO that lies in another directory, which is all that
/// `info_directory` is.
CollectionKeys open_chain_by(storage::ObjectStore& info_directory, std::string_view full,
                             KeyGuard& guard, const Stop& stop);

/// Makes the keys of a new chain and stores them in its directory; those that an attempt left there
/// are used. The server's WAL gets a key with its first chain.
CollectionKeys make_chain(storage::ObjectStore& store, std::string_view full,
                          std::uint64_t system_identifier, KeyGuard& guard, const Stop& stop,
                          const RecordedLock& lock = {});

/// The same for a chain of databases or tables, whose layers keep WAL of their own: the server's
/// WAL is left alone, and the result has no key for it.
CollectionKeys make_scoped_chain(storage::ObjectStore& store, std::string_view full,
                                 std::uint64_t system_identifier, KeyGuard& guard, const Stop& stop,
                                 const RecordedLock& lock = {});
CollectionKeys continue_scoped_chain(storage::ObjectStore& store, std::string_view full,
                                     std::uint64_t system_identifier, KeyGuard& guard,
                                     const Stop& stop);

/// open_chain() for going on with a chain: makes sure that the server's WAL in the collection has
/// the chain's key for it.
CollectionKeys continue_chain(storage::ObjectStore& store, std::string_view full,
                              std::uint64_t system_identifier, KeyGuard& guard, const Stop& stop);

/// The key of a server's WAL. With `make`, one is made where the collection has no WAL of it yet;
/// absent otherwise.
enum class WalKey { Find, Make };
std::optional<CollectionKeys::Wal> open_wal(storage::ObjectStore& store,
                                            std::uint64_t system_identifier, KeyGuard& guard,
                                            WalKey make, const Stop& stop);

/// How the objects of a chain were put, so that what is added to it later can be put likewise; an
/// empty mode: without a lock. Believed only after `guard` has opened the chain: throws as
/// add_guard().
RecordedLock recorded_lock(storage::ObjectStore& store, std::string_view full, KeyGuard& guard,
                           const Stop& stop);

/// Lets `added` open the chain of `full` too, and its server's WAL. Nothing is overwritten, and who
/// could open them before still can. Throws the reference's error when `old` cannot.
void add_guard(storage::ObjectStore& store, std::string_view full, KeyGuard& old, KeyGuard& added,
               const Stop& stop);

/// What an encrypted chain says of itself in clear. Whoever may write to the collection may have
/// changed it.
struct ChainMark {
  std::uint64_t system_identifier = 0;
  /// Its layers, of databases or tables, keep WAL of their own.
  bool own_wal = false;
};
/// Absent for a chain that is not encrypted.
std::optional<ChainMark> read_chain_mark(storage::ObjectStore& store, std::string_view full,
                                         const Stop& stop);

/// Whether that server's WAL in the collection is encrypted.
bool is_wal_encrypted(storage::ObjectStore& store, std::uint64_t system_identifier,
                      const Stop& stop);

/// Throws needs_key() when that server's WAL in the collection is encrypted. For readers.
void require_no_key(storage::ObjectStore& store, std::uint64_t system_identifier, const Stop& stop);

/// Throws kObjectNotInPrerequisiteState when that server's WAL in the collection is encrypted. For
/// writers.
void require_plain_wal(storage::ObjectStore& store, std::uint64_t system_identifier,
                       const Stop& stop);

/// Reads what was stored as ENCRYPTION-INFO. Throws kDataCorrupted naming `object`, or
/// kFeatureNotSupported for a newer version.
proto::EncryptionInfo decode_encryption_info(ByteView stored, std::string_view object);

/// For what turns out to be encrypted when nothing was given to open it.
Error needs_key(std::string_view object);

}  // namespace holdfast::collection
