#include "backup/wal_archiver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>

#include "backup/wal_cleanup.h"
#include "base/error.h"
#include "collection/block_map_store.h"
#include "collection/wal_tail.h"
#include "postgres/testing/private_instance.h"
#include "postgres/testing/segment_size.h"
#include "storage/fault_store.h"
#include "storage/memory_store.h"

namespace holdfast::backup {
namespace {

using postgres::Lsn;
using postgres::testing::kSmallSegment;
using ::testing::HasSubstr;

class WalArchiverTest : public ::testing::Test {
 protected:
  WalArchiverTest() {
    first_ = segment_of(flushed(), kSmallSegment);
    server_.execute(
        "CREATE TABLE t AS SELECT g AS id, repeat('x', g % 900) AS v FROM generate_series(1, "
        "12000) "
        "g; SELECT pg_switch_wal()");
    server_.execute("CREATE INDEX ON t (v); UPDATE t SET v = 'y' WHERE id % 5 = 0");
    end_ = flushed();
    const auto row = server_.execute("SELECT system_identifier FROM pg_control_system()");
    system_ = static_cast<std::uint64_t>(row.integer(0, 0));
    server_.stop();
  }

  Lsn flushed() const {
    return *postgres::parse_lsn(server_.execute("SELECT pg_current_wal_flush_lsn()").text(0, 0));
  }
  std::string wal_directory() const { return server_.data_directory() / "pg_wal"; }
  std::string path_of(std::uint64_t segment) const {
    return wal_directory() + "/" + postgres::wal_segment_name(1, segment, kSmallSegment);
  }
  collection::WalSegmentId id(std::uint64_t segment) const {
    return {.system_identifier = system_,
            .timeline = 1,
            .segment = segment,
            .segment_bytes = kSmallSegment};
  }
  WalArchiver archiver(storage::ObjectStore& store, std::uint64_t segment) const {
    return WalArchiver({.store = &store,
                        .system_identifier = system_,
                        .major = 15,
                        .wal_segment_bytes = kSmallSegment,
                        .path = postgres::TimelinePath(1, {}),
                        .wal_directory = wal_directory()},
                       segment);
  }
  Bytes file(std::uint64_t segment) const {
    std::ifstream in(path_of(segment), std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(in), {}};
    const ByteView view = as_bytes(content);
    return Bytes(view.begin(), view.end());
  }
  Bytes archived(storage::ObjectStore& store, std::uint64_t segment) const {
    Bytes bytes;
    collection::get_wal_segment(
        store, id(segment),
        [&](std::uint64_t, ByteView piece) {
          bytes.insert(bytes.end(), piece.begin(), piece.end());
        },
        Stop::never());
    return bytes;
  }

  postgres::testing::PrivateInstance server_{
      {.initdb_arguments = {"--wal-segsize=1"}, .settings = {"wal_keep_size = '1GB'"}}};
  std::uint64_t first_ = 0;  ///< the segment that was written when the work began
  Lsn end_;
  std::uint64_t system_ = 0;
};

// A store that fails every few calls, and an archiver that begins anew after each, as a job does.
TEST_F(WalArchiverTest, LeavesNoGapHoweverOftenTheStoreFails) {
  storage::FaultStore store(std::make_unique<storage::MemoryStore>());
  std::mt19937 random(11);
  std::uint64_t segment = first_;
  Lsn flushed = postgres::segment_start(first_, kSmallSegment);
  int failures = 0;
  while (true) {
    WalArchiver now = archiver(store, segment);
    ASSERT_TRUE(now.has_first_segment());
    try {
      while (flushed < end_ || now.archived() < end_) {
        if (random() % 4 == 0) {
          store.add(
              {.call = storage::StoreCall::Put,
               .kind = random() % 2 == 0 ? storage::FaultKind::Fail : storage::FaultKind::FailAfter,
               .nth = static_cast<unsigned>(1 + random() % 3)});
        }
        while (now.archive_some(WalArchiveMode::Full, flushed, Stop::never())) {
        }
        now.put_tail(flushed, Stop::never());
        segment = segment_of(now.durable(), kSmallSegment);
        flushed = std::min(end_, Lsn{flushed.value + random() % 700000});
      }
      break;
    } catch (const Error&) {
      ++failures;
      // What is durable may be known or not: the job's checkpoint is written after it.
      if (random() % 2 == 0) segment = segment_of(now.durable(), kSmallSegment);
    }
  }
  EXPECT_GT(failures, 3);
  const std::uint64_t last = segment_of(end_, kSmallSegment);
  for (std::uint64_t done = first_; done < last; ++done) {
    ASSERT_EQ(archived(store, done), file(done)) << done;
    EXPECT_TRUE(collection::get_block_map(store, id(done), Stop::never())) << done;
  }
  const auto tails = collection::list_wal_tails(store, id(last), Stop::never());
  ASSERT_EQ(tails, std::vector<std::uint64_t>{end_.value % kSmallSegment});
  Bytes tail;
  collection::get_wal_tail(
      store, id(last), tails.front(),
      [&](std::uint64_t, ByteView piece) { tail.insert(tail.end(), piece.begin(), piece.end()); },
      Stop::never());
  const Bytes written = file(last);
  EXPECT_EQ(tail, Bytes(written.begin(),
                        written.begin() + static_cast<std::ptrdiff_t>(end_.value % kSmallSegment)));
}

// The archive finds a segment that a backup has put, and counts on it; then the backup is
// cancelled.
TEST_F(WalArchiverTest, KeepsSegmentsThatACancelledBackupHasPut) {
  storage::MemoryStore store;
  proto::BackupJobCheckpoint backup;
  collection::put_wal_segment_file(store, id(first_), path_of(first_), {}, Stop::never());
  add_wal(backup, id(first_));
  WalArchiver full = archiver(store, first_);
  ASSERT_TRUE(full.archive_some(WalArchiveMode::Full, end_, Stop::never()));
  remove_unneeded_wal(store, {.subdirectory = "2026/11/20-223000.00", .now = {}}, backup,
                      Stop::never());
  EXPECT_TRUE(collection::stat_wal_segment(store, id(first_), Stop::never()));
}

TEST_F(WalArchiverTest, KeepsOnlyMapsWhenAsked) {
  storage::MemoryStore store;
  WalArchiver maps = archiver(store, first_);
  while (maps.archive_some(WalArchiveMode::Maps, end_, Stop::never())) {
  }
  EXPECT_EQ(maps.durable(),
            postgres::segment_start(segment_of(end_, kSmallSegment), kSmallSegment));
  EXPECT_TRUE(collection::get_block_map(store, id(first_ + 1), Stop::never()));
  EXPECT_FALSE(collection::stat_wal_segment(store, id(first_ + 1), Stop::never()));
  EXPECT_FALSE(collection::is_wal_archive(store, system_, Stop::never()));
}

TEST_F(WalArchiverTest, RefusesARecycledFile) {
  storage::MemoryStore store;
  std::filesystem::copy_file(path_of(first_), path_of(first_ + 1),
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_FALSE(archiver(store, first_ + 1).has_first_segment());
  WalArchiver fooled = archiver(store, first_);
  try {
    while (fooled.archive_some(WalArchiveMode::Full, end_, Stop::never())) {
    }
    ADD_FAILURE() << "a segment of another place was archived";
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
    EXPECT_THAT(error.message(), HasSubstr("is not what it should be"));
  }
  EXPECT_FALSE(collection::stat_wal_segment(store, id(first_ + 1), Stop::never()));
}

}  // namespace
}  // namespace holdfast::backup
