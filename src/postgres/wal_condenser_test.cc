#include "postgres/wal_condenser.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "base/error.h"
#include "postgres/testing/condensed_wal.h"
#include "postgres/testing/memory_wal.h"
#include "postgres/testing/segment_size.h"
#include "postgres/testing/test_files.h"
#include "postgres/testing/wal_builder.h"
#include "postgres/wal_reader.h"

namespace holdfast::postgres {
namespace {

using testing::condense;
using testing::Condensed;
using testing::expect_same_recovery;
using testing::ForeignWal;
using testing::kCondensedStart;
using testing::kInScope;
using testing::kOutOfScope;
using testing::kSmallSegment;
using testing::read_extent;
using testing::scope_of_one;
using testing::WalBuilder;

/// Records of all kinds and lengths, and segments that end in all ways.
class RandomWal {
 public:
  RandomWal(int major, std::uint64_t seed, int wanted_of_100)
      : random_(seed), builder_(major, kCondensedStart, kSmallSegment), wanted_(wanted_of_100) {
    for (std::uint64_t some = random_() % 200; some > 0; --some) builder_.add(any());
    extent_ = {.major = major, .wal_segment_bytes = kSmallSegment, .start = {}, .end = {}};
    extent_.start = builder_.add(any());
    for (int segments = 0; segments < 6; ++segments) write_segment();
    if (chance(200)) {
      builder_.add_switch();
    } else {
      builder_.add(any());
    }
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
  // Without the segment in which the last record ends.
  const std::uint64_t last = (random.extent().end.value - 1) / kSmallSegment * kSmallSegment;
  cut.resize(last - random.begin().value);
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
