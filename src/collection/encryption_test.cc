#include "collection/encryption.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "collection/testing/names.h"
#include "collection/wal_archive.h"
#include "crypto/sealed_stream.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using storage::ObjectKey;
using storage::ObjectStore;
using testing::HasSubstr;

constexpr std::string_view kOther = "2026/11/21-223000.00";
constexpr std::string_view kLayer = "incrementals/2026/11/20-223000.00/20261120/231500.00";
constexpr std::uint64_t kServer = 7312345678901234567;

/// A view of a store that others use too.
class Shared final : public ObjectStore {
 public:
  explicit Shared(ObjectStore& store) : store_(store) {}
  storage::PutResult put(const ObjectKey& key, ByteView bytes, storage::PutMode mode,
                         const Stop& stop) override {
    return store_.put(key, bytes, mode, stop);
  }
  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    return store_.get_into(key, offset, into, stop);
  }
  std::optional<storage::ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    return store_.stat(key, stop);
  }
  void list(const ObjectKey& prefix, const std::function<void(const storage::ObjectInfo&)>& visit,
            const Stop& stop) override {
    store_.list(prefix, visit, stop);
  }
  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    return store_.list_directories(prefix, stop);
  }
  void remove(const ObjectKey& key, const Stop& stop) override { store_.remove(key, stop); }
  std::string description() const override { return store_.description(); }

 private:
  ObjectStore& store_;
};

class EncryptionTest : public ::testing::Test {
 protected:
  CollectionKeys make(std::string_view full = kFull, std::uint64_t server = kServer) {
    return make_chain(store_, full, server, guard_, stop_);
  }
  std::unique_ptr<ObjectStore> open(CollectionKeys keys) {
    return with_keys(std::make_unique<Shared>(store_), std::move(keys));
  }
  /// What went wrong; empty when nothing did.
  std::string failure(const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.message();
    }
    return "";
  }
  std::string put(ObjectStore& store, const ObjectKey& key) {
    store.put(key, as_bytes("a plain text"), storage::PutMode::OnlyIfAbsent, stop_);
    const auto below = get_whole(store_, key, 1000, stop_).value();
    return as_text(below) == "a plain text" ? "clear" : "sealed";
  }

  storage::MemoryStore store_;
  PassphraseGuard guard_{"correct horse"};
  PassphraseGuard wrong_{"battery staple"};
  Stop stop_ = Stop::never();
};

TEST_F(EncryptionTest, EncryptsAllButWhatMustBeReadWithoutAKey) {
  const auto store = open(make());
  const std::string full(kFull);
  const std::string layer(kLayer);
  const std::string wal = "wal/" + std::to_string(kServer);
  for (const std::string& key :
       {full + "/BACKUP_MANIFEST", full + "/data/1.pack", full + "/progress/BACKUP-CHECKPOINT-0",
        layer + "/BACKUP_MANIFEST", layer + "/data/1.pack", wal + "/00000001/0.wal",
        wal + "/00000001/0.blocks", wal + "/00000001/0.1.partial", wal + "/00000002.history"}) {
    EXPECT_EQ(put(*store, key), "sealed") << key;
  }
  for (const std::string& key :
       {full + "/BACKUP-LOCK-7", layer + "/BACKUP-LOCK-7", wal + "/ARCHIVE",
        std::string("metadata/latest/LATEST-0"), std::string(kOther) + "/BACKUP_MANIFEST",
        std::string("wal/1/00000001/0.wal"), full + "1/x", wal + "1/x"}) {
    EXPECT_EQ(put(*store, key), "clear") << key;
  }
}

TEST_F(EncryptionTest, OpensAChainWithTheSamePassphrase) {
  const CollectionKeys made = make();
  PassphraseGuard again("correct horse");
  const CollectionKeys opened = open_chain(store_, kFull, &again, stop_);
  EXPECT_TRUE(opened.chain->key.equals(made.chain->key));
  EXPECT_TRUE(opened.wal->key.equals(made.wal->key));
  EXPECT_EQ(opened.wal->system_identifier, kServer);
  const CollectionKeys next = continue_chain(store_, kFull, kServer, again, stop_);
  EXPECT_TRUE(next.wal->key.equals(made.wal->key));
}

TEST_F(EncryptionTest, RefusesAWrongOrMissingPassphraseInTheReferencesWords) {
  make();
  EXPECT_THAT(failure([&] { open_chain(store_, kFull, &wrong_, stop_); }),
              HasSubstr("failed to decrypt"));
  EXPECT_EQ(failure([&] { open_chain(store_, kFull, nullptr, stop_); }),
            "file appears encrypted -- try specifying one of \"encryption_passphrase\" or \"kms\"");
  EXPECT_THAT(failure([&] { open_chain(store_, kOther, &guard_, stop_); }),
              HasSubstr("could not find or read encryption information"));
  EXPECT_EQ(failure([&] { EXPECT_TRUE(open_chain(store_, kOther, nullptr, stop_).empty()); }), "");
  EXPECT_THAT(failure([&] { PassphraseGuard(""); }), HasSubstr("must not be empty"));
}

TEST_F(EncryptionTest, SaysThatAManifestIsEncrypted) {
  proto::Manifest manifest;
  manifest.set_subdirectory(std::string(kFull));
  const auto store = open(make());
  write_manifest(*store, kFull, manifest, stop_);
  EXPECT_EQ(read_manifest(*store, kFull, stop_)->subdirectory(), kFull);
  EXPECT_THAT(failure([&] { read_manifest(store_, kFull, stop_); }),
              HasSubstr("file appears encrypted"));
}

TEST_F(EncryptionTest, TakesNoOtherChainsKeys) {
  make();
  make(kOther);
  const auto put_as = [&](std::string_view from, std::string_view to) {
    const auto bytes =
        get_whole(store_, std::string(from) + "/ENCRYPTION-INFO", 1 << 20, stop_).value();
    store_.put(std::string(to) + "/ENCRYPTION-INFO", bytes, storage::PutMode::Overwrite, stop_);
  };
  put_as(kFull, kOther);
  EXPECT_THAT(failure([&] { open_chain(store_, kOther, &guard_, stop_); }),
              HasSubstr("failed to decrypt"));
}

TEST_F(EncryptionTest, GivesAllChainsOfAServerOneWalKey) {
  const CollectionKeys one = make();
  const CollectionKeys two = make(kOther);
  EXPECT_FALSE(one.chain->key.equals(two.chain->key));
  EXPECT_TRUE(one.wal->key.equals(two.wal->key));
  EXPECT_FALSE(one.wal->key.equals(make("2026/11/22-223000.00", 5).wal->key));
  EXPECT_THAT(failure([&] { make_chain(store_, "2026/11/23-223000.00", kServer, wrong_, stop_); }),
              HasSubstr("failed to decrypt"));
}

TEST_F(EncryptionTest, NeverMixesPlainAndEncryptedWal) {
  require_plain_wal(store_, kServer, stop_);
  const ObjectKey segment = wal_key(kServer, 1, 1, 16 << 20);
  store_.put(segment, as_bytes("wal"), storage::PutMode::OnlyIfAbsent, stop_);
  EXPECT_THAT(failure([&] { make(); }), HasSubstr("cannot mix encrypted and plain WAL"));
  EXPECT_FALSE(is_encrypted(store_, kFull, stop_));
  store_.remove(segment, stop_);
  make();
  EXPECT_THAT(failure([&] { require_plain_wal(store_, kServer, stop_); }),
              HasSubstr("cannot mix encrypted and plain WAL"));
}

TEST_F(EncryptionTest, KeepsTheKeyOfWalThatSomebodyRemoved) {
  const CollectionKeys made = make();
  const ObjectKey info = "wal/" + std::to_string(kServer) + "/ENCRYPTION-INFO";
  store_.remove(info, stop_);
  continue_chain(store_, kFull, kServer, guard_, stop_);
  EXPECT_TRUE(open_wal(store_, kServer, guard_, WalKey::Find, stop_)->key.equals(made.wal->key));
  // With another server's WAL key there, the chain must not go on.
  store_.remove(info, stop_);
  open_wal(store_, kServer, guard_, WalKey::Make, stop_);
  EXPECT_THAT(failure([&] { continue_chain(store_, kFull, kServer, guard_, stop_); }),
              HasSubstr("is not that of backup"));
  EXPECT_THAT(failure([&] { continue_chain(store_, kFull, 5, guard_, stop_); }),
              HasSubstr("is of another cluster"));
}

TEST_F(EncryptionTest, AScopedChainLeavesTheServersWalAlone) {
  const CollectionKeys one = make_scoped_chain(store_, kFull, kServer, guard_, stop_);
  const CollectionKeys two = make_scoped_chain(store_, kOther, kServer, wrong_, stop_);
  EXPECT_FALSE(one.wal || two.wal);
  EXPECT_FALSE(is_wal_encrypted(store_, kServer, stop_));
  const CollectionKeys opened = open_chain(store_, kFull, &guard_, stop_);
  EXPECT_TRUE(opened.chain->key.equals(one.chain->key));
  EXPECT_FALSE(opened.wal);
  EXPECT_THAT(failure([&] { open_chain(store_, kOther, &guard_, stop_); }),
              HasSubstr("failed to decrypt"));
  EXPECT_THAT(failure([&] { continue_scoped_chain(store_, kFull, 5, guard_, stop_); }),
              HasSubstr("is of another cluster"));
  // The server's own WAL is somebody else's, with a third key.
  PassphraseGuard third("third");
  make_chain(store_, "2026/11/22-223000.00", kServer, third, stop_);
  EXPECT_FALSE(continue_scoped_chain(store_, kFull, kServer, guard_, stop_).wal);
  add_guard(store_, kFull, guard_, third, stop_);
  EXPECT_TRUE(open_chain(store_, kFull, &third, stop_).chain->key.equals(one.chain->key));
  EXPECT_TRUE(
      make_scoped_chain(store_, kFull, kServer, guard_, stop_).chain->key.equals(one.chain->key));
}

TEST_F(EncryptionTest, TheRecordedLockCannotBeChangedAddedOrRemoved) {
  const RecordedLock lock{.mode = "governance", .retain_for_seconds = 86400};
  PassphraseGuard wrong("somebody else's");
  for (const bool scoped : {false, true}) {
    for (const bool locked : {false, true}) {
      storage::MemoryStore store;
      const RecordedLock given = locked ? lock : RecordedLock{};
      (scoped ? make_scoped_chain : make_chain)(store, kFull, kServer, guard_, stop_, given);
      open_chain(store, kFull, &guard_, stop_);
      const RecordedLock found = recorded_lock(store, kFull, guard_, stop_);
      EXPECT_EQ(found.mode, given.mode);
      EXPECT_EQ(found.retain_for_seconds, given.retain_for_seconds);
      EXPECT_THROW(recorded_lock(store, kFull, wrong, stop_), Error);

      const std::string key = std::string(kFull) + "/ENCRYPTION-INFO";
      auto info = decode_encryption_info(*get_whole(store, key, 1U << 20, stop_), key);
      if (locked) {
        info.clear_object_lock();
        info.clear_retain_for_seconds();
      } else {
        info.set_object_lock("compliance");
        info.set_retain_for_seconds(100ULL * 365 * 86400);
      }
      store.put(key, seal_envelope(as_bytes(info.SerializeAsString())), storage::PutMode::Overwrite,
                stop_);
      EXPECT_THROW(recorded_lock(store, kFull, guard_, stop_), Error);
      EXPECT_THROW(open_chain(store, kFull, &guard_, stop_), Error);
    }
  }
}

TEST_F(EncryptionTest, UsesTheKeysThatAnAttemptLeft) {
  const CollectionKeys first = make();
  EXPECT_TRUE(make().chain->key.equals(first.chain->key));
}

TEST_F(EncryptionTest, AllWhoBeginAtOnceGetOneKey) {
  std::vector<std::optional<CollectionKeys>> made(4);
  std::vector<std::jthread> threads;
  for (auto& keys : made) {
    threads.emplace_back([&] {
      PassphraseGuard guard("correct horse");
      keys = make_chain(store_, kFull, kServer, guard, stop_);
    });
  }
  threads.clear();
  for (const auto& keys : made) {
    EXPECT_TRUE(keys->chain->key.equals(made[0]->chain->key));
    EXPECT_TRUE(keys->wal->key.equals(made[0]->wal->key));
  }
}

TEST_F(EncryptionTest, WritesKeysDownForAJob) {
  const CollectionKeys made = make();
  const CollectionKeys read = parse_keys(serialize_keys(made));
  EXPECT_EQ(read.chain->full, kFull);
  EXPECT_TRUE(read.chain->key.equals(made.chain->key));
  EXPECT_TRUE(read.wal->key.equals(made.wal->key));
  EXPECT_TRUE(parse_keys(serialize_keys({})).empty());
  EXPECT_THROW(parse_keys("\x12\x03xyz"), Error);
}

TEST_F(EncryptionTest, RefusesEncryptionInformationThatIsNone) {
  make();
  const ObjectKey key = std::string(kFull) + "/ENCRYPTION-INFO";
  Bytes bytes = get_whole(store_, key, 1 << 20, stop_).value();
  proto::EncryptionInfo info = decode_encryption_info(bytes, key);
  const auto put = [&](const proto::EncryptionInfo& changed) {
    store_.put(key, seal_envelope(as_bytes(changed.SerializeAsString())),
               storage::PutMode::Overwrite, stop_);
    return failure([&] { open_chain(store_, kFull, &guard_, stop_); });
  };
  EXPECT_EQ(put(info), "");

  proto::EncryptionInfo changed = info;
  changed.mutable_keys(0)->mutable_scrypt()->set_n(1ULL << 40);
  EXPECT_THAT(put(changed), HasSubstr("is corrupt"));
  changed = info;
  changed.set_version(3);
  EXPECT_THAT(put(changed), HasSubstr("newer than this holdfast"));
  // That a chain has no key of WAL cannot be claimed without the chain's own.
  changed = info;
  changed.set_version(2);
  EXPECT_NE(put(changed), "");
  changed = info;
  changed.clear_keys();
  EXPECT_THAT(put(changed), HasSubstr("failed to decrypt"));
  changed = info;
  changed.set_system_identifier(5);
  EXPECT_NE(put(changed), "");
  changed = info;
  changed.clear_wal_key();
  EXPECT_NE(put(changed), "");

  bytes[60] ^= std::byte{1};
  store_.put(key, bytes, storage::PutMode::Overwrite, stop_);
  EXPECT_THAT(failure([&] { open_chain(store_, kFull, &guard_, stop_); }), HasSubstr("corrupt"));
}

TEST_F(EncryptionTest, ReadsWhatWasAddedLater) {
  const CollectionKeys made = make();
  // As a rotation writes it: the same key for somebody else.
  proto::EncryptionInfo info;
  info.set_version(1);
  wrong_.wrap(made.chain->key, "the data key of " + std::string(kFull), info, stop_);
  store_.put(std::string(kFull) + "/ENCRYPTION-INFO-2",
             seal_envelope(as_bytes(info.SerializeAsString())), storage::PutMode::OnlyIfAbsent,
             stop_);
  EXPECT_TRUE(open_chain(store_, kFull, &wrong_, stop_).chain->key.equals(made.chain->key));
  EXPECT_TRUE(open_chain(store_, kFull, &guard_, stop_).chain->key.equals(made.chain->key));
}

TEST_F(EncryptionTest, IsNotLockedByWhatSomebodyAdds) {
  const CollectionKeys made = make();
  store_.put(std::string(kFull) + "/ENCRYPTION-INFO-2", as_bytes("garbage"),
             storage::PutMode::OnlyIfAbsent, stop_);
  EXPECT_TRUE(open_chain(store_, kFull, &guard_, stop_).chain->key.equals(made.chain->key));
  add_guard(store_, kFull, guard_, wrong_, stop_);
  EXPECT_TRUE(open_chain(store_, kFull, &wrong_, stop_).chain->key.equals(made.chain->key));
}

TEST_F(EncryptionTest, LetsAnotherGuardOpenWhatIsThere) {
  const CollectionKeys made = make();
  add_guard(store_, kFull, guard_, wrong_, stop_);
  EXPECT_TRUE(open_chain(store_, kFull, &wrong_, stop_).chain->key.equals(made.chain->key));
  EXPECT_TRUE(open_chain(store_, kFull, &guard_, stop_).chain->key.equals(made.chain->key));
  // New chains can be made with the new one alone, and a second time changes little.
  EXPECT_TRUE(make_chain(store_, kOther, kServer, wrong_, stop_).wal->key.equals(made.wal->key));
  add_guard(store_, kFull, wrong_, wrong_, stop_);
  EXPECT_TRUE(store_.stat(std::string(kFull) + "/ENCRYPTION-INFO-3", stop_));
  EXPECT_FALSE(
      store_.stat("wal/" + std::to_string(kServer) + "/ENCRYPTION-INFO-3", stop_).has_value());
  PassphraseGuard third("third");
  EXPECT_THAT(failure([&] { add_guard(store_, kFull, third, wrong_, stop_); }),
              HasSubstr("failed to decrypt"));
  EXPECT_THAT(failure([&] { add_guard(store_, "2026/11/25-000000.00", guard_, third, stop_); }),
              HasSubstr("ENCRYPTION-INFO not found"));
}

TEST_F(EncryptionTest, WalGoesThroughLikeAnythingElse) {
  const auto store = open(make());
  const WalSegmentId id{
      .system_identifier = kServer, .timeline = 1, .segment = 3, .segment_bytes = 1 << 20};
  const auto zeros = [](std::uint64_t, MutableByteView into) {
    std::fill(into.begin(), into.end(), std::byte{7});
  };
  const auto stored = put_wal_segment(*store, id, zeros, Compression{}, stop_);
  EXPECT_EQ(stat_wal_segment(*store, id, stop_), stored);
  // Put again by a resumed job: the same content is no conflict.
  EXPECT_EQ(put_wal_segment(*store, id, zeros, Compression{}, stop_), stored);
  EXPECT_THAT(list_wal_segments(*store, kServer, 1, 1 << 20, stop_), testing::ElementsAre(3));
  EXPECT_EQ(stat_wal_segment(store_, id, stop_), crypto::sealed_size(stored));
}

TEST_F(EncryptionTest, AWriterFindsOutThatItsKeyIsNotStoredAnyMore) {
  require_key_stored(store_, {}, stop_);
  const CollectionKeys keys = make();
  require_key_stored(store_, keys, stop_);
  require_key_stored(*open(keys), keys, stop_);
  const ObjectKey info = std::string(kFull) + "/ENCRYPTION-INFO";
  store_.remove(info, stop_);
  EXPECT_EQ(failure([&] { require_key_stored(store_, keys, stop_); }),
            "\"" + info + "\" does not exist any more");
  // Another backup has begun there.
  make();
  EXPECT_EQ(failure([&] { require_key_stored(store_, keys, stop_); }),
            "\"" + info + "\" is not that of this backup any more");
}

TEST_F(EncryptionTest, AWriterWithoutWalInTheCollectionFindsItsKey) {
  const CollectionKeys keys = make_scoped_chain(store_, kFull, kServer, guard_, stop_);
  require_key_stored(store_, keys, stop_);
}

}  // namespace
}  // namespace holdfast::collection
