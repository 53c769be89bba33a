#include "backup/wal_cleanup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "base/bytes.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "crypto/sealed_stream.h"
#include "jobs/registry.h"
#include "postgres/testing/segment_size.h"
#include "storage/memory_store.h"

namespace holdfast::backup {
namespace {

using postgres::testing::kSmallSegment;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::uint64_t kSystem = 42;
constexpr const char* kOwn = "2026/11/20-223000.00";

class WalCleanupTest : public ::testing::Test {
 protected:
  static collection::WalSegmentId id(std::uint64_t segment) {
    return {.system_identifier = kSystem,
            .timeline = 1,
            .segment = segment,
            .segment_bytes = kSmallSegment};
  }
  void put(std::uint64_t segment) {
    collection::put_wal_segment(
        store_, id(segment), [](std::uint64_t, MutableByteView) {}, {}, Stop::never());
    add_wal(checkpoint_, id(segment));
  }
  std::vector<std::uint64_t> left() {
    return collection::list_wal_segments(store_, kSystem, 1, kSmallSegment, Stop::never());
  }
  void finish(const std::string& subdirectory, std::vector<std::uint64_t> segments) {
    collection::proto::Manifest manifest;
    manifest.set_format_version(collection::kChainFormatVersion);
    manifest.set_subdirectory(subdirectory);
    manifest.mutable_instance()->set_system_identifier(kSystem);
    for (const auto segment : segments) {
      auto& wal = *manifest.add_wal();
      wal.set_timeline(1);
      wal.set_segment(segment);
    }
    collection::write_manifest(store_, subdirectory, manifest, Stop::never());
  }

  void clean_up() { remove_unneeded_wal(store_, cleanup_, checkpoint_, Stop::never()); }

  WalCleanup cleanup_ = {.subdirectory = kOwn, .now = *parse_timestamp("2026-11-21 00:00:00+00")};
  storage::MemoryStore store_;
  proto::BackupJobCheckpoint checkpoint_;
};

TEST_F(WalCleanupTest, KeepsNeighboursInOneRange) {
  for (const std::uint64_t segment : {5, 6, 6, 7, 9}) add_wal(checkpoint_, id(segment));
  ASSERT_EQ(checkpoint_.wal_size(), 2);
  EXPECT_EQ(checkpoint_.wal(0).first(), 5U);
  EXPECT_EQ(checkpoint_.wal(0).last(), 7U);
  EXPECT_EQ(checkpoint_.wal(1).first(), 9U);
}

TEST_F(WalCleanupTest, RemovesWhatNobodyNeeds) {
  for (const std::uint64_t segment : {5, 6, 8}) put(segment);
  clean_up();
  EXPECT_THAT(left(), IsEmpty());
  clean_up();
}

TEST_F(WalCleanupTest, KeepsWhatAFinishedBackupNeeds) {
  for (const std::uint64_t segment : {5, 6, 7}) put(segment);
  finish("2026/11/20-223001.00", {6, 7});
  clean_up();
  EXPECT_THAT(left(), ElementsAre(6, 7));
}

TEST_F(WalCleanupTest, KeepsAllOfAWalArchive) {
  for (const std::uint64_t segment : {5, 6}) put(segment);
  collection::mark_wal_archive(store_, kSystem, Stop::never());
  clean_up();
  EXPECT_THAT(left(), ElementsAre(5, 6));
  EXPECT_FALSE(collection::is_wal_archive(store_, kSystem + 1, Stop::never()));
}

/// The id of a job that some daemon created so long before the cleanup.
jobs::JobId job_of(Time now, std::chrono::hours age) {
  constexpr std::int64_t kTicksPerSecond = 100000;
  const auto since = now - age - jobs::creation_time(0);
  return (std::chrono::duration_cast<std::chrono::seconds>(since).count() * kTicksPerSecond << 15) |
         3;
}

TEST_F(WalCleanupTest, KeepsAllWhileAnotherBackupIsUnfinished) {
  for (const char* other :
       {"2026/11/20-223001.00", "incrementals/2026/11/20-223001.00/20261120/231500.00"}) {
    put(5);
    const jobs::JobId job = job_of(cleanup_.now, std::chrono::hours(20));
    collection::take_lock(store_, other, job, Stop::never());
    collection::take_lock(store_, kOwn, 7, Stop::never());
    clean_up();
    EXPECT_THAT(left(), ElementsAre(5)) << other;
    collection::release_lock(store_, other, job, Stop::never());
    clean_up();
    EXPECT_THAT(left(), IsEmpty()) << other;
  }
}

TEST_F(WalCleanupTest, WhatWasLeftBehindDoesNotBlockForEver) {
  const std::string other = "2026/11/01-000000.00";
  const jobs::JobId job = job_of(cleanup_.now, std::chrono::hours(24 * 8));
  put(5);
  collection::take_lock(store_, other, job, Stop::never());
  // This daemon's own, however old: it may be running.
  cleanup_.has_unfinished_job = [&](jobs::JobId id) { return id == job; };
  clean_up();
  EXPECT_THAT(left(), ElementsAre(5));
  // Of another daemon, that has written lately.
  cleanup_.has_unfinished_job = [](jobs::JobId) { return false; };
  collection::proto::Manifest partial;
  partial.set_subdirectory(other);
  const Time lately = cleanup_.now - std::chrono::hours(2);
  collection::write_checkpoint(store_, other, partial, lately.time_since_epoch().count(),
                               Stop::never());
  clean_up();
  EXPECT_THAT(left(), ElementsAre(5));
  collection::remove_checkpoints(store_, other, Stop::never());
  clean_up();
  EXPECT_THAT(left(), IsEmpty());
}

TEST_F(WalCleanupTest, KeepsAllWhileABackupCannotBeRead) {
  put(5);
  const std::string other = "2026/11/20-223001.00";
  Bytes sealed(crypto::sealed_size(4));
  crypto::seal_stream(crypto::SecretKey::random(), other, as_bytes("text"), sealed);
  store_.put(collection::manifest_key(other), sealed, storage::PutMode::OnlyIfAbsent,
             Stop::never());
  clean_up();
  EXPECT_THAT(left(), ElementsAre(5));
}

TEST_F(WalCleanupTest, TakesNoKeysForABackup) {
  put(5);
  store_.put("2026/11/20-223001.00/ENCRYPTION-INFO", as_bytes("x"), storage::PutMode::OnlyIfAbsent,
             Stop::never());
  clean_up();
  EXPECT_THAT(left(), IsEmpty());
}

TEST_F(WalCleanupTest, PacksWithoutALockHoldNothingUp) {
  put(5);
  store_.put("2026/11/20-200000.00/data/1.pack", as_bytes("x"), storage::PutMode::OnlyIfAbsent,
             Stop::never());
  clean_up();
  EXPECT_THAT(left(), IsEmpty());
}

/// Lets something happen at the first read of a manifest: between the two looks.
class InterruptedStore : public storage::MemoryStore {
 public:
  std::function<void()> meanwhile;
  bool get_into(const storage::ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    if (meanwhile && key.ends_with(collection::kManifestName)) std::exchange(meanwhile, {})();
    return storage::MemoryStore::get_into(key, offset, into, stop);
  }
};

TEST_F(WalCleanupTest, KeepsAllWhenTheCollectionChangesMeanwhile) {
  for (const bool finished : {true, false}) {
    InterruptedStore store;
    collection::put_wal_segment(
        store, id(5), [](std::uint64_t, MutableByteView) {}, {}, Stop::never());
    proto::BackupJobCheckpoint checkpoint;
    add_wal(checkpoint, id(5));
    finish("2026/11/19-000000.00", {1});
    const auto first =
        storage::get_whole(store_, "2026/11/19-000000.00/BACKUP_MANIFEST", 1 << 20, Stop::never());
    store.put("2026/11/19-000000.00/BACKUP_MANIFEST", *first, storage::PutMode::OnlyIfAbsent,
              Stop::never());
    store.meanwhile = [&] {
      if (finished) {
        // Began and ended between the looks; it found segment 5 in the archive.
        store.put("2026/11/20-235900.00/BACKUP_MANIFEST", *first, storage::PutMode::OnlyIfAbsent,
                  Stop::never());
      } else {
        collection::take_lock(store, "2026/11/20-235900.00",
                              job_of(cleanup_.now, std::chrono::hours(0)), Stop::never());
      }
    };
    remove_unneeded_wal(store, cleanup_, checkpoint, Stop::never());
    EXPECT_THAT(collection::list_wal_segments(store, kSystem, 1, kSmallSegment, Stop::never()),
                ElementsAre(5));
    store_.remove("2026/11/19-000000.00/BACKUP_MANIFEST", Stop::never());
  }
}

/// Lets something happen at the first removal.
class RemovingStore : public storage::MemoryStore {
 public:
  std::function<void()> meanwhile;
  void remove(const storage::ObjectKey& key, const Stop& stop) override {
    if (meanwhile) std::exchange(meanwhile, {})();
    storage::MemoryStore::remove(key, stop);
  }
};

// On a standby a backup begins at the last restartpoint, in WAL that another one has put long ago.
TEST_F(WalCleanupTest, EndsWhenABackupBeginsWhileItRemoves) {
  for (const char* other :
       {"2026/11/20-235900.00", "incrementals/2026/11/19-000000.00/20261121/000000.00"}) {
    SCOPED_TRACE(other);
    RemovingStore store;
    proto::BackupJobCheckpoint checkpoint;
    const auto put_into = [&](std::uint64_t segment) {
      collection::put_wal_segment(
          store, id(segment), [](std::uint64_t, MutableByteView) {}, {}, Stop::never());
    };
    for (std::uint64_t segment = 100; segment < 200; ++segment) {
      put_into(segment);
      add_wal(checkpoint, id(segment));
    }
    store.meanwhile = [&] {
      collection::take_lock(store, other, job_of(cleanup_.now, std::chrono::hours(0)),
                            Stop::never());
      put_into(190);  // which is there already
    };
    remove_unneeded_wal(store, cleanup_, checkpoint, Stop::never());
    const auto kept =
        collection::list_wal_segments(store, kSystem, 1, kSmallSegment, Stop::never());
    EXPECT_THAT(kept, ::testing::Contains(190U));
    EXPECT_LT(kept.size(), 100U);  // it had begun to remove
    EXPECT_GT(kept.size(), 50U);
  }
}

}  // namespace
}  // namespace holdfast::backup
