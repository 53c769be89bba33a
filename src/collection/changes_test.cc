#include "collection/changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "base/error.h"
#include "collection/block_map_store.h"
#include "collection/segment_maps.h"
#include "postgres/testing/private_instance.h"
#include "postgres/testing/segment_size.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using postgres::Lsn;
using postgres::TimelinePath;
using postgres::testing::kSmallSegment;
using ::testing::HasSubstr;

constexpr Compression kCompression{};

/// Some megabytes of WAL in segments of one, and where the server stood before and after.
class ChangesTest : public ::testing::Test {
 protected:
  ChangesTest() {
    from_ = now();
    server_.execute(
        "CREATE TABLE t AS SELECT g AS id, repeat('x', g % 900) AS v FROM generate_series(1, 9000) "
        "g; CREATE INDEX ON t (id)");
    // Records of several pages, some over the edges of segments.
    server_.execute(
        "SELECT pg_logical_emit_message(false, 'p', repeat('m', 30000 + g)) FROM "
        "generate_series(1, "
        "60) g");
    server_.execute("UPDATE t SET v = 'y' WHERE id % 5 = 0");
    to_ = now();
    server_.execute("CHECKPOINT");
    server_.stop();
    const auto row = server_.run({"/bin/sh", "-c",
                                  (server_.pg_bin() / "pg_controldata").string() + " " +
                                      server_.data_directory().string() +
                                      " | sed -n 's/^Database system identifier: *//p'"});
    system_ = std::stoull(row);
  }

  Lsn now() const {
    return *postgres::parse_lsn(server_.execute("SELECT pg_current_wal_insert_lsn()").text(0, 0));
  }
  std::string wal_directory() const { return server_.data_directory() / "pg_wal"; }
  postgres::WalInput local() const {
    return postgres::wal_directory_input(wal_directory(), 1, kSmallSegment);
  }
  WalSegmentId id(std::uint64_t segment) const {
    return {.system_identifier = system_,
            .timeline = 1,
            .segment = segment,
            .segment_bytes = kSmallSegment};
  }
  ChangesRequest request() const {
    return {.system_identifier = system_,
            .major = 15,
            .wal_segment_bytes = kSmallSegment,
            .path = TimelinePath(1, {}),
            .from_timeline = 1,
            .from = from_,
            .to = to_};
  }
  BlockMap scanned(Lsn from, Lsn to) const {
    return build_block_map({.reader = {.major = 15,
                                       .wal_segment_bytes = kSmallSegment,
                                       .start = from,
                                       .system_identifier = system_},
                            .end = to},
                           1, local(), Stop::never());
  }
  /// Maps and, if wanted, WAL of all whole segments, as an archiver makes them.
  void archive_maps() {
    SegmentMapBuilder builder({.system_identifier = system_,
                               .major = 15,
                               .wal_segment_bytes = kSmallSegment,
                               .segment = segment_of(from_, kSmallSegment),
                               .path = TimelinePath(1, {})},
                              local());
    std::mt19937 random(5);
    Lsn flushed = from_;
    while (flushed < to_) {
      flushed = std::min(to_, Lsn{flushed.value + random() % 50000});
      builder.read_to(
          flushed,
          [&](const WalSegmentId& done, const BlockMap& map) {
            put_block_map(store_, done, map, Stop::never());
          },
          Stop::never());
      ASSERT_LE(builder.position().value, (flushed.value + 8191) / 8192 * 8192 + 8192);
    }
    ASSERT_EQ(builder.segment(), segment_of(to_, kSmallSegment)) << builder.end_reason();
  }

  // initdb takes the segment size in MiB.
  postgres::testing::PrivateInstance server_{
      {.initdb_arguments = {"--wal-segsize=1"}, .settings = {"wal_keep_size = '1GB'"}}};
  storage::MemoryStore store_;
  std::uint64_t system_ = 0;
  Lsn from_;
  Lsn to_;
};

TEST_F(ChangesTest, AreTheSameFromMapsAndFromWal) {
  const Bytes expected = serialize(scanned(from_, to_));
  auto asked = request();
  asked.wal_directory = wal_directory();
  // Nothing in the collection: all from pg_wal.
  auto changes = changes_between(store_, asked, Stop::never());
  ASSERT_TRUE(changes.map) << changes.reason;
  EXPECT_EQ(serialize(*changes.map), expected);

  // Maps for whole segments, pg_wal for the ends.
  archive_maps();
  changes = changes_between(store_, asked, Stop::never());
  ASSERT_TRUE(changes.map) << changes.reason;
  EXPECT_EQ(serialize(*changes.map), expected);

  // Without pg_wal the end is unknown, which must not be taken for "nothing changed".
  asked.wal_directory.clear();
  changes = changes_between(store_, asked, Stop::never());
  EXPECT_FALSE(changes.map);
  EXPECT_THAT(changes.reason, HasSubstr("neither in the archive nor in pg_wal"));

  // The archive has the WAL of both ends (and what the first one's last record goes on in).
  const std::uint64_t last = segment_of(to_, kSmallSegment);
  const std::uint64_t first = segment_of(from_, kSmallSegment);
  for (const auto segment : {first, first + 1, last}) {
    put_wal_segment_file(
        store_, id(segment),
        wal_directory() + "/" + postgres::wal_segment_name(1, segment, kSmallSegment), kCompression,
        Stop::never());
  }
  changes = changes_between(store_, asked, Stop::never());
  ASSERT_TRUE(changes.map) << changes.reason;
  EXPECT_EQ(serialize(*changes.map), expected);
  EXPECT_GT(changes.map->changed_blocks(), 0U);
}

// A disk that was set back to a snapshot writes other WAL into the segments of the same timeline.
TEST_F(ChangesTest, DoNotUseAMapOfAnotherHistory) {
  const Bytes expected = serialize(scanned(from_, to_));
  archive_maps();
  const std::uint64_t middle = segment_of(from_, kSmallSegment) + 1;
  BlockMap foreign = *get_block_map(store_, id(middle), Stop::never());
  ASSERT_TRUE(foreign.records().known());
  foreign.set_records(
      {.previous = Lsn{foreign.records().previous.value - 8}, .last = foreign.records().last});
  store_.remove(block_map_key(id(middle)), Stop::never());
  put_block_map(store_, id(middle), foreign, Stop::never());

  auto asked = request();
  asked.wal_directory = wal_directory();
  auto changes = changes_between(store_, asked, Stop::never());
  ASSERT_TRUE(changes.map) << changes.reason;
  EXPECT_EQ(serialize(*changes.map), expected);  // pg_wal tells

  std::filesystem::remove(wal_directory() + "/" +
                          postgres::wal_segment_name(1, middle, kSmallSegment));
  changes = changes_between(store_, asked, Stop::never());
  EXPECT_FALSE(changes.map);
  EXPECT_EQ(changes.reason, "WAL segment " + postgres::wal_segment_name(1, middle, kSmallSegment) +
                                " does not continue the one before it");
  EXPECT_TRUE(changes.other_history);
}

// The server has written something else where a record of the base's history begins.
TEST_F(ChangesTest, RefuseAStartThatTheServersWalLacks) {
  auto asked = request();
  asked.wal_directory = wal_directory();
  asked.from.value += 8;
  auto changes = changes_between(store_, asked, Stop::never());
  EXPECT_FALSE(changes.map);
  EXPECT_TRUE(changes.other_history);
  // Where pg_wal no longer has the place, nothing is known.
  std::filesystem::remove(
      wal_directory() + "/" +
      postgres::wal_segment_name(1, segment_of(from_, kSmallSegment), kSmallSegment));
  changes = changes_between(store_, asked, Stop::never());
  EXPECT_FALSE(changes.map);
  EXPECT_FALSE(changes.other_history);
}

TEST_F(ChangesTest, AMapOfAnEarlierReleaseIsTheSameAsItsSuccessor) {
  archive_maps();
  const std::uint64_t middle = segment_of(from_, kSmallSegment) + 1;
  const BlockMap map = *get_block_map(store_, id(middle), Stop::never());
  BlockMap earlier = map;
  earlier.set_records({});
  store_.remove(block_map_key(id(middle)), Stop::never());
  put_block_map(store_, id(middle), earlier, Stop::never());
  put_block_map(store_, id(middle), map, Stop::never());
  EXPECT_FALSE(get_block_map(store_, id(middle), Stop::never())->records().known());
}

TEST_F(ChangesTest, RefuseATimelineThatDoesNotLeadHere) {
  auto asked = request();
  asked.wal_directory = wal_directory();
  asked.path = TimelinePath(2, {{1, Lsn{from_.value - 8}, ""}});
  const auto changes = changes_between(store_, asked, Stop::never());
  EXPECT_FALSE(changes.map);
  EXPECT_THAT(changes.reason, HasSubstr("not in the history of timeline 2"));
}

TEST_F(ChangesTest, RefuseMinimalWalAndGaps) {
  archive_maps();
  auto asked = request();
  asked.wal_directory = wal_directory();
  const std::uint64_t middle = segment_of(from_, kSmallSegment) + 1;
  store_.remove(block_map_key(id(middle)), Stop::never());
  std::filesystem::remove(wal_directory() + "/" +
                          postgres::wal_segment_name(1, middle, kSmallSegment));
  auto changes = changes_between(store_, asked, Stop::never());
  EXPECT_FALSE(changes.map);
  EXPECT_THAT(changes.reason, HasSubstr(postgres::wal_segment_name(1, middle, kSmallSegment)));

  BlockMap minimal(coverage_of(id(middle)));
  minimal.wal_minimal();
  put_block_map(store_, id(middle), minimal, Stop::never());
  put_block_map(store_, id(middle), minimal, Stop::never());
  try {
    put_block_map(store_, id(middle), BlockMap(coverage_of(id(middle))), Stop::never());
    ADD_FAILURE() << "a map of other WAL was taken for the same";
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kDuplicateFile);
  }
  changes = changes_between(store_, asked, Stop::never());
  EXPECT_FALSE(changes.map);
  EXPECT_THAT(changes.reason, HasSubstr("minimal"));
}

}  // namespace
}  // namespace holdfast::collection
