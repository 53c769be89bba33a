#include "postgres/wal_condenser.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "base/error.h"
#include "postgres/testing/memory_wal.h"
#include "postgres/testing/segment_size.h"
#include "postgres/testing/test_files.h"
#include "postgres/testing/wal_builder.h"
#include "postgres/wal_filter.h"
#include "postgres/wal_reader.h"

namespace holdfast::postgres {
namespace {

using testing::kSmallSegment;
using testing::WalBuilder;

constexpr Lsn kCondensedStart{kSmallSegment * 3};
constexpr RelationLocator kInScope{1663, 16384, 20000};
constexpr RelationLocator kOutOfScope{1663, 16384, 20001};

WalScope scope_of_one() { return {.databases = {{16384, {.all = false, .files = {20000}}}}}; }

/// A record as a reader finds it.
struct Found {
  Lsn start;
  Lsn end;
  std::uint8_t resource_manager = 0;
  std::uint8_t info = 0;
  bool has_blocks = false;
  std::uint32_t xid = 0;
  Bytes bytes;

  /// Recovery does nothing for it.
  bool idle() const {
    return resource_manager == 0 && !has_blocks && (info == 0x20 || info == 0x40 || info == 0xD0);
  }
  /// Transactions' ends, clog, multixacts, standby, commit times; but no prepared transaction.
  bool may_move() const {
    if (has_blocks) return false;
    if (resource_manager == 1) return (info & 0x70) != 0x10;
    return resource_manager == 3 || resource_manager == 6 || resource_manager == 8 ||
           resource_manager == 18;
  }
  /// Without its link to the record before, and the checksum.
  Bytes content() const {
    Bytes all = bytes;
    std::fill_n(all.begin() + 8, 8, std::byte{0});
    std::fill_n(all.begin() + 20, 4, std::byte{0});
    return all;
  }
};

/// Those of the extent. The reader checks pages, links and checksums.
std::vector<Found> read_extent(const WalExtent& extent, const Bytes& wal, Lsn begin) {
  WalReader reader({.major = extent.major,
                    .wal_segment_bytes = extent.wal_segment_bytes,
                    .start = extent.start,
                    .system_identifier = 0},
                   testing::memory_input(wal, begin, extent.wal_segment_bytes));
  std::vector<Found> records;
  while (records.empty() || records.back().end < extent.end) {
    const WalRecord* record = reader.next();
    if (record == nullptr) {
      ADD_FAILURE() << reader.end_reason() << "; " << records.size() << " records before";
      break;
    }
    records.push_back({record->start,
                       record->end,
                       record->resource_manager,
                       record->info,
                       !record->blocks.empty(),
                       record->xid,
                       {record->bytes.begin(), record->bytes.end()}});
  }
  return records;
}

struct Condensed {
  Bytes wal;  ///< what was not written is filled with something that nobody can read
  std::uint64_t written = 0;
};

Condensed condense(const WalExtent& extent, const WalScope& scope, const Bytes& wal, Lsn begin) {
  Condensed result{.wal = Bytes(wal.size(), std::byte{0xEE})};
  Lsn next{};
  WalCondenser condenser(extent, scope, [&](Lsn position, ByteView pages) {
    EXPECT_GE(position, next);
    EXPECT_EQ(pages.size() % kWalPageBytes, 0U);
    next = Lsn{position.value + pages.size()};
    std::ranges::copy(
        pages, result.wal.begin() + static_cast<std::ptrdiff_t>(position.value - begin.value));
    result.written += pages.size();
  });
  const std::uint64_t bytes = extent.wal_segment_bytes;
  std::vector<WalSegmentContent> segments;
  for (std::uint64_t at = 0; at < wal.size(); at += bytes) {
    segments.push_back(examine_wal_segment(extent, scope, Lsn{begin.value + at},
                                           ByteView(wal).subspan(at, bytes)));
  }
  for (const auto& segment : segments) condenser.add(segment);
  condenser.finish();
  return result;
}

/// What the simple filter, which changes no record's place or length, leaves of the same WAL.
Bytes simply_filtered(const WalExtent& extent, const WalScope& scope, const Bytes& wal) {
  WalFilter filter({.major = extent.major,
                    .wal_segment_bytes = extent.wal_segment_bytes,
                    .start = extent.start,
                    .end = extent.end},
                   scope);
  Bytes out;
  const auto output = [&](Lsn, ByteView pages) {
    out.insert(out.end(), pages.begin(), pages.end());
  };
  filter.push(wal, output);
  filter.finish(output);
  return out;
}

/// Recovery does the same with the condensed WAL as with what the simple filter makes of it.
Condensed expect_same_recovery(const WalExtent& extent, const WalScope& scope, const Bytes& wal,
                               Lsn begin) {
  const Bytes filtered = simply_filtered(extent, scope, wal);
  Condensed condensed = condense(extent, scope, wal, begin);
  const auto before = read_extent(extent, filtered, begin);
  const auto after = read_extent(extent, condensed.wal, begin);
  EXPECT_FALSE(before.empty() || after.empty());
  if (before.empty() || after.empty()) return condensed;
  // The extent begins and ends where it did.
  EXPECT_EQ(after.front().start, before.front().start);
  EXPECT_EQ(after.back().start, before.back().start);
  std::uint32_t newest_before = 0;
  std::uint32_t newest_after = 0;
  std::vector<const Found*> wanted;
  for (const Found& record : before) {
    newest_before = std::max(newest_before, record.xid);
    if (!record.idle()) wanted.push_back(&record);
  }
  std::size_t next = 0;
  for (const Found& record : after) {
    newest_after = std::max(newest_after, record.xid);
    if (record.idle()) continue;
    if (next == wanted.size()) {
      ADD_FAILURE() << "one record too many at " << to_string(record.start);
      break;
    }
    const Found& original = *wanted[next++];
    if (record.content() != original.content()) {
      ADD_FAILURE() << to_string(original.start) << " became another at "
                    << to_string(record.start);
      break;
    }
    if (original.may_move()) {
      EXPECT_LE(record.start, original.start);
    } else {
      EXPECT_EQ(record.start, original.start);
    }
  }
  EXPECT_EQ(next, wanted.size());
  EXPECT_EQ(newest_after, newest_before);
  // What lies behind the end, and before the start, is as it was.
  const auto same = [&](std::uint64_t from, std::uint64_t to) {
    return std::equal(wal.begin() + static_cast<std::ptrdiff_t>(from),
                      wal.begin() + static_cast<std::ptrdiff_t>(to),
                      condensed.wal.begin() + static_cast<std::ptrdiff_t>(from));
  };
  EXPECT_TRUE(same(0, extent.start.value - begin.value));
  EXPECT_TRUE(same((extent.end.value + 7) / 8 * 8 - begin.value, wal.size()));
  return condensed;
}

/// Records of all kinds and lengths, and segments that end in all ways.
class RandomWal {
 public:
  RandomWal(int major, std::uint64_t seed, int wanted_of_100)
      : random_(seed), builder_(major, kCondensedStart, kSmallSegment), wanted_(wanted_of_100) {
    for (std::uint64_t some = random_() % 200; some > 0; --some) builder_.add(any());
    extent_ = {.major = major, .wal_segment_bytes = kSmallSegment, .start = {}, .end = {}};
    extent_.start = builder_.add(any());
    for (int segments = 0; segments < 6; ++segments) write_segment();
    builder_.add(any());
    extent_.end = builder_.position();
    for (std::uint64_t some = random_() % 500; some > 0; --some) builder_.add(any());
  }

  const WalExtent& extent() const { return extent_; }
  /// Start of the segment in which the extent begins.
  Lsn begin() const { return Lsn{extent_.start.value - extent_.start.value % kSmallSegment}; }
  /// From there on.
  Bytes wal() const {
    Bytes all = builder_.whole_segments();
    all.erase(all.begin(),
              all.begin() + static_cast<std::ptrdiff_t>(begin().value - kCondensedStart.value));
    return all;
  }

 private:
  bool chance(std::uint64_t of_1000) { return random_() % 1000 < of_1000; }

  std::size_t random_length() {
    if (chance(3)) return random_() % (kSmallSegment * 5 / 2);
    if (chance(50)) return random_() % 60'000;
    return random_() % 300;
  }

  WalBuilder::Record any() {
    WalBuilder::Record record{.resource_manager = 10,
                              .xid = 700 + static_cast<std::uint32_t>(random_() % 100'000)};
    if (static_cast<int>(random_() % 100) >= wanted_) {
      if (chance(100)) {
        record.resource_manager = 21;  // LOGICALMSG
        record.main_data.resize(1 + random_length(), std::byte{0x77});
      } else {
        record.blocks = {{kOutOfScope, 1, random_() % 400}};
        if (chance(20)) record.main_data.resize(random_length());
      }
    } else if (chance(500)) {
      record.blocks = {{kInScope, 1, random_() % 400}};
      if (chance(100)) record.main_data.resize(random_length());
    } else {
      record.resource_manager = std::array<std::uint8_t, 6>{1, 3, 6, 8, 18, 0}[random_() % 6];
      record.main_data.resize(1 + random_length(), std::byte{0x33});
      if (record.main_data.size() == 1) record.main_data.resize(2);
    }
    return record;
  }

  void add_lost() {
    builder_.add_lost({.resource_manager = 10, .blocks = {{kOutOfScope, 1, 9000}}, .xid = 3});
    builder_.add({.resource_manager = 0, .info = 0xD0, .main_data = Bytes(16), .xid = 0});
  }

  /// So that it, or a record at its end, is a few bytes short of its end, or goes beyond.
  void write_segment() {
    const std::uint64_t end =
        (builder_.position().value / kSmallSegment + 1) * kSmallSegment - random_() % 120;
    const bool fill = chance(600);
    while (builder_.position().value + 60'000 < end) {
      builder_.add(any());
      if (chance(1)) return static_cast<void>(builder_.add_switch());
      if (chance(2)) add_lost();
    }
    while (fill && builder_.position().value + 900 < end) {
      WalBuilder::Record record = any();
      record.main_data.resize(std::min<std::size_t>(record.main_data.size(), 300));
      builder_.add(record);
    }
    if (fill && end > builder_.position().value + 100) {
      // A record that ends there: a header, a block reference, its data.
      builder_.add({.resource_manager = 10,
                    .blocks = {{chance(500) ? kInScope : kOutOfScope, 1,
                                end - (builder_.position().value + 7) / 8 * 8 - 44}}});
    }
    if (chance(150)) add_lost();
    if (chance(150)) builder_.add_switch();
  }

  std::mt19937_64 random_;
  WalBuilder builder_;
  int wanted_;
  WalExtent extent_;
};

class CondensedWal : public ::testing::TestWithParam<int> {};

TEST_P(CondensedWal, RecoversWhatTheSimplyFilteredDoes) {
  for (const int wanted : {0, 1, 20, 60, 97, 100}) {
    for (std::uint64_t round = 0; round < 10; ++round) {
      // Others for each version.
      const std::uint64_t seed = static_cast<std::uint64_t>(GetParam()) * 100 + round;
      SCOPED_TRACE(fmt::format("{} of 100 wanted, seed {}", wanted, seed));
      const RandomWal random(GetParam(), seed, wanted);
      expect_same_recovery(random.extent(), scope_of_one(), random.wal(), random.begin());
      if (HasFailure()) return;
    }
  }
}

TEST_P(CondensedWal, KeepsTheRecordsOfARealServer) {
  const int major = GetParam();
  const Bytes cut = testing::test_data(fmt::format("wal_{}.bin", major));
  const Lsn first{load<std::uint64_t>(cut, 8)};
  // The file begins in the middle of a segment.
  const Lsn begin{first.value - first.value % kSmallSegment};
  Bytes wal(first.value - begin.value);
  wal.insert(wal.end(), cut.begin(), cut.end());
  wal.resize((wal.size() + kSmallSegment - 1) / kSmallSegment * kSmallSegment);
  WalReader reader(
      {.major = major, .wal_segment_bytes = kSmallSegment, .start = first, .system_identifier = 0},
      testing::memory_input(wal, begin, kSmallSegment));
  WalExtent extent{.major = major, .wal_segment_bytes = kSmallSegment, .start = {}, .end = {}};
  while (const WalRecord* record = reader.next()) {
    if (!extent.start.valid()) extent.start = record->start;
    extent.end = record->end;
  }
  expect_same_recovery(extent, WalScope{}, wal, begin);
  expect_same_recovery(extent, {.databases = {}, .everything = true}, wal, begin);
}

INSTANTIATE_TEST_SUITE_P(All, CondensedWal, ::testing::Range(kOldestMajor, kNewestMajor + 1),
                         [](const auto& test) { return std::to_string(test.param); });

/// WAL of transactions that change what is out of scope, over several segments.
struct ForeignWal {
  explicit ForeignWal(std::uint64_t segments) : builder(15, kCondensedStart, kSmallSegment) {
    extent.start = builder.add({.resource_manager = 0, .main_data = Bytes(88), .xid = 0});
    while (builder.position().value < kCondensedStart.value + segments * kSmallSegment) {
      builder.add({.resource_manager = 10, .blocks = {{kOutOfScope, 1, 4000}}, .xid = ++xid});
      builder.add({.resource_manager = 1, .main_data = Bytes(8), .xid = xid});
    }
  }
  void end(const WalBuilder::Record& record) {
    builder.add(record);
    extent.end = builder.position();
  }

  WalBuilder builder;
  WalExtent extent{.major = 15, .wal_segment_bytes = kSmallSegment, .start = {}, .end = {}};
  std::uint32_t xid = 700;
};

TEST(WalCondenser, WritesLittleOfSegmentsWithoutAnythingInScope) {
  ForeignWal wal(8);
  wal.end({.resource_manager = 1, .main_data = Bytes(8), .xid = wal.xid});
  const Condensed condensed = expect_same_recovery(wal.extent, scope_of_one(),
                                                   wal.builder.whole_segments(), kCondensedStart);
  // About 250 commits in each segment of a megabyte take a page or two. The last one is not left
  // out, for its last record stays.
  EXPECT_LE(condensed.written, 8 * 2 * kWalPageBytes + kSmallSegment);
  // A commit of two records is left; and what fills the last segment.
  EXPECT_LT(read_extent(wal.extent, condensed.wal, kCondensedStart).size(),
            read_extent(wal.extent, wal.builder.whole_segments(), kCondensedStart).size() / 2 + 40);
}

TEST(WalCondenser, EndsAtARecordThatTheScopeDoesWithout) {
  ForeignWal wal(2);
  wal.end({.resource_manager = 10, .blocks = {{kOutOfScope, 1, 400}}, .xid = 5000});
  const Bytes source = wal.builder.whole_segments();
  const Condensed condensed =
      expect_same_recovery(wal.extent, scope_of_one(), source, kCondensedStart);
  const auto records = read_extent(wal.extent, condensed.wal, kCondensedStart);
  ASSERT_FALSE(records.empty());
  EXPECT_TRUE(records.back().idle());
  EXPECT_EQ(records.back().xid, 5000U);
}

TEST(WalCondenser, TakesTheEndOfALongRecordToTheNextSegment) {
  for (const auto& relation : {kInScope, kOutOfScope}) {
    ForeignWal wal(1);
    wal.builder.add({.resource_manager = 10,
                     .blocks = {{relation, 1, 10}},
                     .main_data = Bytes(kSmallSegment * 3),
                     .xid = 6000});
    wal.end({.resource_manager = 1, .main_data = Bytes(8), .xid = 6000});
    expect_same_recovery(wal.extent, scope_of_one(), wal.builder.whole_segments(), kCondensedStart);
  }
}

/// Only at its end is it known whether it is the last one, which stays.
TEST(WalCondenser, EndsAtALongRecordThatTheScopeDoesWithout) {
  for (const std::size_t bytes : {kSmallSegment / 2, kSmallSegment, kSmallSegment * 5 / 2}) {
    ForeignWal wal(1);
    wal.end({.resource_manager = 21, .main_data = Bytes(bytes)});
    expect_same_recovery(wal.extent, scope_of_one(), wal.builder.whole_segments(), kCondensedStart);
  }
}

TEST(WalCondenser, AdvancesTheTransactionCounterAsFar) {
  for (const bool in_last_segment : {false, true}) {
    ForeignWal wal(2);
    wal.builder.add({.resource_manager = 10, .blocks = {{kOutOfScope, 1, 100}}, .xid = 9000});
    if (!in_last_segment) wal.builder.add_switch();
    wal.end({.resource_manager = 10, .blocks = {{kInScope, 1, 100}}, .xid = 750});
    const Condensed condensed = expect_same_recovery(wal.extent, scope_of_one(),
                                                     wal.builder.whole_segments(), kCondensedStart);
    std::uint32_t newest = 0;
    for (const auto& record : read_extent(wal.extent, condensed.wal, kCondensedStart)) {
      newest = std::max(newest, record.xid);
    }
    EXPECT_EQ(newest, 9000U);
  }
}

/// IDs are compared modulo 2^32: one from half of them ago would count as one of the future.
TEST(WalCondenser, FillsGapsWithTheNewestTransactionOfAll) {
  WalBuilder builder(15, kCondensedStart, kSmallSegment);
  const WalBuilder::Record fixed{.resource_manager = 10, .blocks = {{kInScope, 1, 20}}};
  const auto with_xid = [](WalBuilder::Record record, std::uint32_t xid) {
    record.xid = xid;
    return record;
  };
  WalExtent extent{.major = 15, .wal_segment_bytes = kSmallSegment, .start = {}, .end = {}};
  extent.start =
      builder.add({.resource_manager = 10, .blocks = {{kOutOfScope, 1, 100}}, .xid = 10});
  for (const std::uint32_t xid : {0x40000000U, 0x7FFFFFFFU}) builder.add(with_xid(fixed, xid));
  builder.add({.resource_manager = 1, .main_data = Bytes(8), .xid = 0x80000100});
  builder.add_switch();
  builder.add({.resource_manager = 10, .blocks = {{kOutOfScope, 1, 100}}, .xid = 0});
  builder.add(with_xid(fixed, 0));
  extent.end = builder.position();
  const Condensed condensed =
      expect_same_recovery(extent, scope_of_one(), builder.whole_segments(), kCondensedStart);
  std::vector<std::uint32_t> fillers;
  for (const auto& record : read_extent(extent, condensed.wal, kCondensedStart)) {
    if (record.idle()) fillers.push_back(record.xid);
  }
  EXPECT_EQ(fillers, (std::vector<std::uint32_t>{10, 0x80000100, 0x80000100}));
}

/// Recovery has reached the end of the segment then, and nothing less is what a backup may ask for.
TEST(WalCondenser, EndsWithASegmentWhereTheExtentDoes) {
  ForeignWal wal(1);
  const Lsn last = wal.builder.add_switch();
  wal.extent.end = wal.builder.position();
  const Condensed condensed = expect_same_recovery(wal.extent, scope_of_one(),
                                                   wal.builder.whole_segments(), kCondensedStart);
  const auto records = read_extent(wal.extent, condensed.wal, kCondensedStart);
  ASSERT_FALSE(records.empty());
  EXPECT_EQ(records.back().start, last);
  EXPECT_EQ(records.back().end, wal.extent.end);
}

TEST(WalCondenser, EndsWithASegmentThoughItsSwitchBeganInTheOneBefore) {
  ForeignWal wal(0);
  const std::uint64_t start = kCondensedStart.value + kSmallSegment - 8;
  // Headers of pages, of the record, of its data.
  wal.builder.add({.resource_manager = 21,
                   .main_data = Bytes(start - (wal.builder.position().value + 7) / 8 * 8 -
                                      (kSmallSegment / kWalPageBytes - 1) * 24 - 24 - 5)});
  ASSERT_EQ(wal.builder.add_switch().value, start);
  wal.extent.end = wal.builder.position();
  ASSERT_EQ(wal.extent.end.value, kCondensedStart.value + 2 * kSmallSegment);
  const Condensed condensed = expect_same_recovery(wal.extent, scope_of_one(),
                                                   wal.builder.whole_segments(), kCondensedStart);
  const auto records = read_extent(wal.extent, condensed.wal, kCondensedStart);
  ASSERT_FALSE(records.empty());
  EXPECT_EQ(records.back().end, wal.extent.end);
}

/// Recovery finds fault with one that does not follow what it is about, which is left out.
TEST(WalCondenser, EndsWithoutTheRecordThatTellsOfALostOne) {
  ForeignWal wal(1);
  wal.builder.add_lost({.resource_manager = 10, .blocks = {{kOutOfScope, 1, 9000}}});
  wal.end({.resource_manager = 0, .info = 0xD0, .main_data = Bytes(16), .xid = 0});
  const Condensed condensed = expect_same_recovery(wal.extent, scope_of_one(),
                                                   wal.builder.whole_segments(), kCondensedStart);
  const auto records = read_extent(wal.extent, condensed.wal, kCondensedStart);
  ASSERT_FALSE(records.empty());
  EXPECT_EQ(records.back().info, 0x20);
}

/// Every way in which a record that is left out can lie across the end of a segment, and what may
/// follow it: there is no record of 8 or 16 bytes to fill a gap with.
TEST(WalCondenser, LeavesNoGapThatNothingFills) {
  const WalBuilder::Record fixed{.resource_manager = 10, .blocks = {{kInScope, 1, 20}}};
  const WalBuilder::Record movable{.resource_manager = 1, .main_data = Bytes(6)};
  const WalBuilder::Record foreign{.resource_manager = 10, .blocks = {{kOutOfScope, 1, 20}}};
  WalBuilder::Record long_one = fixed;
  long_one.main_data.resize(kSmallSegment + 5000);
  const std::vector<std::vector<WalBuilder::Record>> followers = {
      {fixed}, {movable, fixed}, {foreign, fixed}, {long_one}, {movable, long_one}, {movable}, {}};
  for (std::uint64_t head = 8; head <= 40; head += 8) {
    for (std::uint64_t tail = 0; tail <= 40; tail += 8) {
      for (std::size_t number = 0; number < followers.size(); ++number) {
        for (const bool before : {false, true}) {
          if (head + tail < 32) continue;
          SCOPED_TRACE(fmt::format("{} bytes before the end and {} behind it, then {}, {}", head,
                                   tail, number, before));
          ForeignWal wal(0);
          // Of something long that stays in its place, so that the segment has room, or has none.
          const std::uint64_t wanted = kCondensedStart.value + kSmallSegment - head;
          WalBuilder::Record filling = before ? fixed : foreign;
          const std::uint64_t left = wanted - (wal.builder.position().value + 7) / 8 * 8;
          // Headers of pages, of the record, of its block, of its data.
          filling.blocks[0].data_bytes = 0;
          filling.main_data.resize(left - (kSmallSegment / kWalPageBytes - 1) * 24 - 24 - 20 - 5);
          wal.builder.add(filling);
          ASSERT_EQ(wal.builder.position().value, wanted);
          wal.builder.add({.resource_manager = 21, .main_data = Bytes(head + tail - 26)});
          for (const auto& record : followers[number]) wal.builder.add(record);
          wal.builder.add(foreign);
          wal.builder.add_switch();
          wal.builder.add(movable);
          wal.end(fixed);
          expect_same_recovery(wal.extent, scope_of_one(), wal.builder.whole_segments(),
                               kCondensedStart);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST(WalCondenser, KeepsTheTimelineOfEachPage) {
  ForeignWal wal(3);
  wal.end({.resource_manager = 0, .info = 0x90, .main_data = Bytes(24), .xid = 0});
  Bytes source = wal.builder.whole_segments();
  // The second segment's pages from the 50th on are of the next timeline.
  const std::size_t first = kSmallSegment + 50 * kWalPageBytes;
  for (std::size_t page = first; page < source.size(); page += kWalPageBytes) {
    store<std::uint32_t>(source, page + 4, 2);
  }
  // A record stays behind there, so that such pages are written.
  const Condensed condensed =
      condense(wal.extent, {.databases = {}, .everything = true}, source, kCondensedStart);
  for (std::size_t page = 0; page < first + 20 * kWalPageBytes; page += kWalPageBytes) {
    ASSERT_EQ(load<std::uint32_t>(condensed.wal, page + 4), page < first ? 1U : 2U) << page;
  }
}

TEST(WalCondenser, RefusesWhatIsDamagedOrMissing) {
  const RandomWal random(15, 5, 50);
  const Bytes wal = random.wal();
  std::mt19937_64 places(3);
  int found = 0;
  for (int round = 0; round < 100; ++round) {
    Bytes damaged = wal;
    // Not the first page, whose header a record may still hide in.
    const std::uint64_t begin = random.extent().start.value - random.begin().value + kWalPageBytes;
    const std::uint64_t end = random.extent().end.value - random.begin().value;
    damaged[begin + places() % (end - begin)] ^= std::byte{0x10};
    try {
      condense(random.extent(), scope_of_one(), damaged, random.begin());
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kDataCorrupted) << error.message();
      ++found;
    }
  }
  // The others hit padding, unused rests of segments, or bytes that nothing checks.
  EXPECT_GT(found, 60);
  Bytes cut = wal;
  cut.resize(kSmallSegment * 3);
  EXPECT_THROW(condense(random.extent(), scope_of_one(), cut, random.begin()), Error);
}

TEST(WalCondenser, RefusesSegmentsThatDoNotFollowOneAnother) {
  ForeignWal wal(3);
  wal.end({.resource_manager = 1, .main_data = Bytes(8), .xid = 1});
  Bytes source = wal.builder.whole_segments();
  // A segment of another server's, valid in itself.
  WalBuilder shifted(15, kCondensedStart, kSmallSegment);
  shifted.add({.resource_manager = 1, .main_data = Bytes(2000), .xid = 1});
  while (shifted.position().value < kCondensedStart.value + 3 * kSmallSegment) {
    shifted.add({.resource_manager = 10, .blocks = {{kOutOfScope, 1, 900}}, .xid = 1});
  }
  const Bytes foreign = shifted.whole_segments();
  std::copy_n(foreign.begin() + kSmallSegment, kSmallSegment, source.begin() + kSmallSegment);
  EXPECT_THROW(condense(wal.extent, scope_of_one(), source, kCondensedStart), Error);
}

TEST(WalCondenser, RefusesSegmentsOfWhichOneIsMissing) {
  ForeignWal wal(3);
  wal.end({.resource_manager = 1, .main_data = Bytes(8), .xid = 1});
  const Bytes source = wal.builder.whole_segments();
  const WalScope scope = scope_of_one();
  const auto segment = [&](std::uint64_t number) {
    return examine_wal_segment(wal.extent, scope,
                               Lsn{kCondensedStart.value + number * kSmallSegment},
                               ByteView(source).subspan(number * kSmallSegment, kSmallSegment));
  };
  struct Case {
    std::vector<std::uint64_t> given;
    std::uint64_t missing;
  };
  for (const auto& [given, missing] : {Case{{0, 2}, 1}, Case{{1}, 0}, Case{{0, 1, 1}, 2}}) {
    WalCondenser condenser(wal.extent, scope, [](Lsn, ByteView) {});
    for (std::size_t i = 0; i + 1 < given.size(); ++i) condenser.add(segment(given[i]));
    try {
      condenser.add(segment(given.back()));
      ADD_FAILURE() << "took segment " << given.back();
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
      const Lsn expected{kCondensedStart.value + missing * kSmallSegment};
      EXPECT_TRUE(error.message().ends_with("no segment begins at " + to_string(expected)))
          << error.message();
    }
  }
}

TEST(NewerTransaction, KnowsThatTransactionIdsWrapAround) {
  EXPECT_EQ(newer_transaction(0, 5), 5U);
  EXPECT_EQ(newer_transaction(5, 0), 5U);
  EXPECT_EQ(newer_transaction(7, 5), 7U);
  EXPECT_EQ(newer_transaction(0xFFFFFFF0, 5), 5U);
  EXPECT_EQ(newer_transaction(5, 0xFFFFFFF0), 5U);
}

}  // namespace
}  // namespace holdfast::postgres
