#include "backup/wal_cleanup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "crypto/sealed_stream.h"
#include "storage/memory_store.h"

namespace holdfast::backup {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::uint64_t kSystem = 42;
constexpr std::uint64_t kSegmentBytes = 1 << 20;
constexpr const char* kOwn = "2026/11/20-223000.00";

class WalCleanupTest : public ::testing::Test {
 protected:
  static collection::WalSegmentId id(std::uint64_t segment) {
    return {.system_identifier = kSystem,
            .timeline = 1,
            .segment = segment,
            .segment_bytes = kSegmentBytes};
  }
  void put(std::uint64_t segment) {
    collection::put_wal_segment(
        store_, id(segment), [](std::uint64_t, MutableByteView) {}, {}, Stop::never());
    add_wal(checkpoint_, id(segment));
  }
  std::vector<std::uint64_t> left() {
    return collection::list_wal_segments(store_, kSystem, 1, kSegmentBytes, Stop::never());
  }
  void finish(const std::string& subdirectory, std::vector<std::uint64_t> segments) {
    collection::proto::Manifest manifest;
    manifest.set_format_version(collection::kFormatVersion);
    manifest.set_subdirectory(subdirectory);
    manifest.mutable_instance()->set_system_identifier(kSystem);
    for (const auto segment : segments) {
      auto& wal = *manifest.add_wal();
      wal.set_timeline(1);
      wal.set_segment(segment);
    }
    collection::write_manifest(store_, subdirectory, manifest, Stop::never());
  }

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
  remove_unneeded_wal(store_, kOwn, checkpoint_, Stop::never());
  EXPECT_THAT(left(), IsEmpty());
  remove_unneeded_wal(store_, kOwn, checkpoint_, Stop::never());
}

TEST_F(WalCleanupTest, KeepsWhatAFinishedBackupNeeds) {
  for (const std::uint64_t segment : {5, 6, 7}) put(segment);
  finish("2026/11/20-223001.00", {6, 7});
  remove_unneeded_wal(store_, kOwn, checkpoint_, Stop::never());
  EXPECT_THAT(left(), ElementsAre(6, 7));
}

TEST_F(WalCleanupTest, KeepsAllOfAWalArchive) {
  for (const std::uint64_t segment : {5, 6}) put(segment);
  collection::mark_wal_archive(store_, kSystem, Stop::never());
  remove_unneeded_wal(store_, kOwn, checkpoint_, Stop::never());
  EXPECT_THAT(left(), ElementsAre(5, 6));
  EXPECT_FALSE(collection::is_wal_archive(store_, kSystem + 1, Stop::never()));
}

TEST_F(WalCleanupTest, KeepsAllWhileAnotherBackupIsUnfinished) {
  put(5);
  collection::take_lock(store_, "2026/11/20-223001.00", 8, Stop::never());
  collection::take_lock(store_, kOwn, 7, Stop::never());
  remove_unneeded_wal(store_, kOwn, checkpoint_, Stop::never());
  EXPECT_THAT(left(), ElementsAre(5));
  collection::release_lock(store_, "2026/11/20-223001.00", 8, Stop::never());
  remove_unneeded_wal(store_, kOwn, checkpoint_, Stop::never());
  EXPECT_THAT(left(), IsEmpty());
}

TEST_F(WalCleanupTest, KeepsAllWhileABackupCannotBeRead) {
  put(5);
  const std::string other = "2026/11/20-223001.00";
  Bytes sealed(crypto::sealed_size(4));
  crypto::seal_stream(crypto::SecretKey::random(), other, as_bytes("text"), sealed);
  store_.put(collection::manifest_key(other), sealed, storage::PutMode::OnlyIfAbsent,
             Stop::never());
  remove_unneeded_wal(store_, kOwn, checkpoint_, Stop::never());
  EXPECT_THAT(left(), ElementsAre(5));
}

TEST_F(WalCleanupTest, TakesNoKeysForABackup) {
  put(5);
  store_.put("2026/11/20-223001.00/ENCRYPTION-INFO", as_bytes("x"), storage::PutMode::OnlyIfAbsent,
             Stop::never());
  remove_unneeded_wal(store_, kOwn, checkpoint_, Stop::never());
  EXPECT_THAT(left(), IsEmpty());
}

}  // namespace
}  // namespace holdfast::backup
