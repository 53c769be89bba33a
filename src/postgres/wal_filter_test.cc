#include "postgres/wal_filter.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/error.h"
#include "postgres/testing/memory_wal.h"
#include "postgres/testing/segment_size.h"
#include "postgres/testing/test_files.h"
#include "postgres/testing/wal_builder.h"
#include "postgres/wal_reader.h"

namespace holdfast::postgres {
namespace {

using testing::kSmallSegment;
using testing::WalBuilder;

constexpr Lsn kStart{kSmallSegment * 3};
constexpr std::uint32_t kOurs = 16384;
constexpr std::uint32_t kForeign = 16385;
constexpr std::uint32_t kWanted = 20000;
constexpr std::uint32_t kUnwanted = 20001;

constexpr RelationLocator kWantedRelation{1663, kOurs, kWanted};
constexpr RelationLocator kOtherRelation{1663, kOurs, kUnwanted};
constexpr RelationLocator kForeignRelation{1663, kForeign, kWanted};
constexpr RelationLocator kSharedRelation{1664, 0, 1260};

WalScope one_table() { return {.databases = {{kOurs, {.all = false, .files = {kWanted}}}}}; }

Bytes filter_words(std::initializer_list<std::uint32_t> values, std::size_t size = 0) {
  Bytes bytes;
  for (const auto value : values) {
    bytes.resize(bytes.size() + 4);
    store(bytes, bytes.size() - 4, value);
  }
  bytes.resize(std::max(size, bytes.size()));
  return bytes;
}

/// Filters in pieces of `step` bytes.
Bytes filter(WalFilter& filter, const Bytes& wal, std::size_t step = kSmallSegment) {
  Bytes out;
  const auto output = [&](Lsn position, ByteView pages) {
    EXPECT_EQ(position.value, kStart.value + out.size());
    out.insert(out.end(), pages.begin(), pages.end());
  };
  for (std::size_t at = 0; at < wal.size(); at += step) {
    filter.push(ByteView(wal).subspan(at, std::min(step, wal.size() - at)), output);
  }
  filter.finish(output);
  EXPECT_EQ(out.size(), wal.size());
  return out;
}

struct Seen {
  Lsn start;
  std::uint8_t resource_manager = 0;
  std::uint8_t info = 0;
  std::uint32_t xid = 0;
  Bytes bytes;
  bool noop() const { return resource_manager == 0 && info == 0x20; }
};

std::vector<Seen> read(int major, const Bytes& wal, Lsn start) {
  WalReader reader(
      {.major = major, .wal_segment_bytes = kSmallSegment, .start = start, .system_identifier = 0},
      testing::memory_input(wal, kStart, kSmallSegment));
  std::vector<Seen> records;
  while (const WalRecord* record = reader.next()) {
    records.push_back({record->start,
                       record->resource_manager,
                       record->info,
                       record->xid,
                       {record->bytes.begin(), record->bytes.end()}});
  }
  return records;
}

// One row of the keep/replace table.
struct Row {
  const char* name;
  WalBuilder::Record record;
  bool kept;
  int first_major = kOldestMajor;
  int last_major = kNewestMajor;
};

std::vector<Row> rows() {
  const auto of = [](const RelationLocator& at, std::uint32_t before = 0, bool offset = false) {
    return offset ? filter_words({before, at.tablespace, at.database, at.relation, 1})
                  : filter_words({at.tablespace, at.database, at.relation, 1});
  };
  std::vector<Row> all;
  for (const std::uint8_t info : {0x00, 0x10, 0x20, 0x30, 0x50, 0x60, 0x70, 0x80, 0x90, 0xD0}) {
    all.push_back({"XLOG", {.resource_manager = 0, .info = info, .main_data = Bytes(88)}, true});
  }
  all.push_back({"XLOG SWITCH is kept", {.resource_manager = 0, .info = 0x40}, true});
  all.push_back(
      {"CHECKPOINT_REDO", {.resource_manager = 0, .info = 0xE0, .main_data = Bytes(4)}, true, 17});
  for (const std::uint8_t info : {0x00, 0x20, 0x30, 0x40, 0x50, 0x60}) {
    all.push_back({"XACT", {.resource_manager = 1, .info = info, .main_data = Bytes(8)}, true});
  }
  all.push_back(
      {"PREPARE of ours",
       {.resource_manager = 1, .info = 0x10, .main_data = filter_words({1, 2, 3, kOurs}, 60)},
       true});
  all.push_back(
      {"PREPARE of another database",
       {.resource_manager = 1, .info = 0x90, .main_data = filter_words({1, 2, 3, kForeign}, 60)},
       false});
  for (const std::uint8_t manager : {3, 6, 8, 18, 19}) {
    all.push_back({"CLOG, MULTIXACT, STANDBY, COMMIT_TS, REPLORIGIN",
                   {.resource_manager = manager, .info = 0x10, .main_data = Bytes(16)},
                   true});
  }
  all.push_back({"CREATE of a wanted relation",
                 {.resource_manager = 2, .info = 0x10, .main_data = of(kWantedRelation)},
                 true});
  all.push_back({"CREATE of another relation",
                 {.resource_manager = 2, .info = 0x10, .main_data = of(kOtherRelation)},
                 false});
  all.push_back({"CREATE in another database",
                 {.resource_manager = 2, .info = 0x10, .main_data = of(kForeignRelation)},
                 false});
  all.push_back({"CREATE of a shared relation",
                 {.resource_manager = 2, .info = 0x10, .main_data = of(kSharedRelation)},
                 true});
  all.push_back({"TRUNCATE of a wanted relation",
                 {.resource_manager = 2, .info = 0x20, .main_data = of(kWantedRelation, 5, true)},
                 true});
  all.push_back({"TRUNCATE of another relation",
                 {.resource_manager = 2, .info = 0x20, .main_data = of(kOtherRelation, 5, true)},
                 false});
  all.push_back({"RELMAP of ours",
                 {.resource_manager = 7, .main_data = filter_words({kOurs, 1663, 512}, 524)},
                 true});
  all.push_back({"RELMAP of the shared catalogs",
                 {.resource_manager = 7, .main_data = filter_words({0, 1664, 512}, 524)},
                 true});
  all.push_back({"RELMAP of another database",
                 {.resource_manager = 7, .main_data = filter_words({kForeign, 1663, 512}, 524)},
                 false});
  for (const std::uint8_t info : {0x00, 0x10, 0x20}) {
    all.push_back(
        {"DBASE of ours",
         {.resource_manager = 4, .info = info, .main_data = filter_words({kOurs, 1663, 1, 1663})},
         true});
    all.push_back({"DBASE of another",
                   {.resource_manager = 4,
                    .info = info,
                    .main_data = filter_words({kForeign, 1663, kOurs, 1663})},
                   false});
  }
  for (const std::uint8_t info : {0x00, 0x10}) {
    all.push_back({"TBLSPC", {.resource_manager = 5, .info = info, .main_data = Bytes(30)}, false});
  }
  all.push_back({"BTREE REUSE_PAGE of a wanted index",
                 {.resource_manager = 11, .info = 0xD0, .main_data = of(kWantedRelation)},
                 true});
  all.push_back({"BTREE REUSE_PAGE of another",
                 {.resource_manager = 11, .info = 0xD0, .main_data = of(kOtherRelation)},
                 false});
  all.push_back({"GIST PAGE_REUSE of another",
                 {.resource_manager = 14, .info = 0x20, .main_data = of(kOtherRelation)},
                 false});
  all.push_back({"GIST PAGE_REUSE of a wanted index",
                 {.resource_manager = 14, .info = 0x20, .main_data = of(kWantedRelation)},
                 true});
  all.push_back(
      {"GIST ASSIGN_LSN", {.resource_manager = 14, .info = 0x70, .main_data = Bytes(4)}, false});
  all.push_back(
      {"HEAP TRUNCATE", {.resource_manager = 10, .info = 0x30, .main_data = Bytes(16)}, false});
  all.push_back(
      {"HEAP2 NEW_CID", {.resource_manager = 9, .info = 0x70, .main_data = Bytes(34)}, false});
  all.push_back(
      {"HEAP2 REWRITE", {.resource_manager = 9, .info = 0x00, .main_data = Bytes(400)}, false});
  all.push_back({"HEAP2 CLEANUP_INFO",
                 {.resource_manager = 9, .info = 0x30, .main_data = Bytes(16)},
                 false,
                 13,
                 13});
  all.push_back(
      {"LOGICALMSG", {.resource_manager = 21, .info = 0x00, .main_data = Bytes(100'000)}, false});
  all.push_back({"custom", {.resource_manager = 200, .main_data = Bytes(10)}, false, 15});
  all.push_back({"custom with a wanted block",
                 {.resource_manager = 200, .blocks = {{kWantedRelation, 1, 8}}},
                 true,
                 15});
  for (const std::uint8_t manager : {0, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20}) {
    all.push_back({"block of a wanted relation",
                   {.resource_manager = manager,
                    .info = 0x80,
                    .blocks = {{kWantedRelation, 3, 40}},
                    .main_data = Bytes(3)},
                   true});
    all.push_back({"block of another relation",
                   {.resource_manager = manager,
                    .info = 0x80,
                    .blocks = {{kOtherRelation, 3, 40}},
                    .main_data = Bytes(3)},
                   false});
    all.push_back({"block of another database",
                   {.resource_manager = manager,
                    .info = 0x80,
                    .blocks = {{kForeignRelation, 3, 40}, {kForeignRelation, 4, 0, 1}}},
                   false});
    all.push_back(
        {"block of a shared relation",
         {.resource_manager = manager, .info = 0x80, .blocks = {{kSharedRelation, 3, 40}}},
         true});
  }
  all.push_back(
      {"one wanted block of two",
       {.resource_manager = 20, .blocks = {{kOtherRelation, 3, 40}, {kWantedRelation, 4, 10, 1}}},
       true});
  return all;
}

class EveryVersion : public ::testing::TestWithParam<int> {};

TEST_P(EveryVersion, KeepsAndReplacesByTheTable) {
  const int major = GetParam();
  for (const Row& row : rows()) {
    if (major < row.first_major || major > row.last_major) continue;
    SCOPED_TRACE(fmt::format("{}: resource manager {} info {:#x}", row.name,
                             row.record.resource_manager, row.record.info));
    WalBuilder builder(major, kStart, kSmallSegment);
    const Lsn start = builder.add({.resource_manager = 3, .main_data = Bytes(4)});
    const Lsn record = builder.add(row.record);
    if (row.record.info != 0x40) builder.add({.resource_manager = 3, .main_data = Bytes(4)});
    const Bytes wal = builder.whole_segments();
    WalFilter subject({.major = major,
                       .wal_segment_bytes = kSmallSegment,
                       .start = start,
                       .end = builder.position()},
                      one_table());
    const auto before = read(major, wal, start);
    const auto after = read(major, filter(subject, wal), start);
    ASSERT_GE(before.size(), 2U);
    ASSERT_EQ(before.size(), after.size());
    EXPECT_EQ(after[1].start, record);
    EXPECT_EQ(after[1].xid, row.record.xid);
    EXPECT_EQ(after[1].bytes.size(), before[1].bytes.size());
    EXPECT_EQ(after[1].bytes == before[1].bytes, row.kept);
    EXPECT_EQ(after[1].noop() && !before[1].noop(), !row.kept);
    for (const std::size_t other : {std::size_t{0}, after.size() - 1}) {
      if (other != 1) {
        EXPECT_EQ(after[other].bytes, before[other].bytes);
      }
    }
  }
}

TEST_P(EveryVersion, RefusesRecordsThatNoVersionWrites) {
  const int major = GetParam();
  for (const auto& [manager, info] : {std::pair<std::uint8_t, std::uint8_t>{10, 0x10},
                                      {9, 0x40},
                                      {11, 0x00},
                                      {14, 0x00},
                                      {2, 0x30},
                                      {17, 0x00},
                                      {22, 0x00}}) {
    WalBuilder builder(major, kStart, kSmallSegment);
    const Lsn start =
        builder.add({.resource_manager = manager, .info = info, .main_data = Bytes(20)});
    WalFilter subject({.major = major,
                       .wal_segment_bytes = kSmallSegment,
                       .start = start,
                       .end = builder.position()},
                      one_table());
    EXPECT_THROW(filter(subject, builder.whole_segments()), Error) << +manager << " " << +info;
  }
}

TEST_P(EveryVersion, KeepsTheRecordsOfARealServerReadable) {
  const int major = GetParam();
  const Bytes cut = testing::test_data(fmt::format("wal_{}.bin", major));
  const Lsn first{load<std::uint64_t>(cut, 8)};
  // The file begins in the middle of a segment.
  const std::uint64_t segment_start = first.value - first.value % kSmallSegment;
  Bytes wal(first.value - segment_start);
  wal.insert(wal.end(), cut.begin(), cut.end());
  const auto records = [&](const Bytes& bytes) {
    WalReader reader({.major = major,
                      .wal_segment_bytes = kSmallSegment,
                      .start = first,
                      .system_identifier = 0},
                     testing::memory_input(bytes, Lsn{segment_start}, kSmallSegment));
    std::vector<std::pair<Lsn, bool>> found;
    while (const WalRecord* record = reader.next()) {
      found.emplace_back(record->start, record->resource_manager == 0 && record->info == 0x20);
    }
    return std::pair(found, reader.position());
  };
  const auto [before, end] = records(wal);
  WalFilter subject(
      {.major = major, .wal_segment_bytes = kSmallSegment, .start = first, .end = end}, WalScope{});
  Bytes out;
  const auto output = [&](Lsn, ByteView pages) {
    out.insert(out.end(), pages.begin(), pages.end());
  };
  subject.push(wal, output);
  subject.finish(output);
  const auto [after, same_end] = records(out);
  EXPECT_EQ(end, same_end);
  ASSERT_EQ(before.size(), after.size());
  EXPECT_EQ(subject.records(), before.size());
  std::size_t replaced = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i].first, after[i].first);
    replaced += after[i].second ? 1 : 0;
  }
  // Nothing but the commit, the checkpoint and the like concerns an empty scope.
  EXPECT_EQ(replaced, subject.replaced());
  EXPECT_GT(replaced, before.size() / 2);
  EXPECT_LT(replaced, before.size());
}

TEST_P(EveryVersion, KeepsAllDatabasesButNoTablespaceWhereEverythingIsInScope) {
  const int major = GetParam();
  const WalScope everything{.databases = {}, .everything = true};
  const auto decide_on = [&](std::uint8_t manager, std::uint8_t info, const Bytes& data) {
    return decide({.resource_manager = manager, .info = info, .main_data = data}, everything,
                  major);
  };
  EXPECT_EQ(decide_on(2, 0x10, filter_words({1663, kForeign, kWanted, 0})), WalDecision::Keep);
  EXPECT_EQ(decide_on(4, 0x00, filter_words({kForeign, 1663, 1, 1663})), WalDecision::Keep);
  EXPECT_EQ(decide_on(1, 0x10, filter_words({0, 0, 0, kForeign})), WalDecision::Keep);
  EXPECT_EQ(decide_on(7, 0x00, filter_words({kForeign, 1663, 512})), WalDecision::Keep);
  EXPECT_EQ(decide_on(5, 0x00, filter_words({16400})), WalDecision::Replace);
  EXPECT_TRUE(everything.wants(kForeignRelation));
  EXPECT_TRUE(everything.wants_database(kForeign));
}

INSTANTIATE_TEST_SUITE_P(All, EveryVersion, ::testing::Range(kOldestMajor, kNewestMajor + 1),
                         [](const auto& test) { return std::to_string(test.param); });

/// Records of all lengths, so that pages and segments cut them at every place.
Bytes random_wal(std::mt19937& random, Lsn& start, Lsn& end, bool lose_some) {
  WalBuilder builder(15, kStart, kSmallSegment);
  start = builder.add({.resource_manager = 3, .main_data = Bytes(4)});
  while (builder.position().value < kStart.value + kSmallSegment * 2 + 100'000) {
    const RelationLocator relations[] = {kWantedRelation, kOtherRelation, kForeignRelation,
                                         kSharedRelation};
    WalBuilder::Record record{.resource_manager = 10, .info = 0};
    const std::size_t blocks = random() % 4 == 0 ? 1 + random() % 33 : 1;
    for (std::size_t i = 0; i < blocks; ++i) {
      record.blocks.push_back({relations[random() % 4], static_cast<std::uint32_t>(random() % 99),
                               random() % 200, static_cast<std::uint8_t>(i)});
    }
    if (random() % 50 == 0) record.blocks.resize(1);
    if (random() % 50 == 0) record.main_data.resize(random() % 60'000);
    if (lose_some && random() % 400 == 0) {
      record.main_data.resize(20'000);
      builder.add_lost(record);
    } else {
      builder.add(record);
    }
  }
  end = builder.position();
  return builder.whole_segments();
}

TEST(WalFilter, CutsRecordsAnywhereTheSameWay) {
  std::mt19937 random(7);
  for (int round = 0; round < 6; ++round) {
    Lsn start;
    Lsn end;
    const Bytes wal = random_wal(random, start, end, round % 2 == 1);
    const WalFilterOptions options{
        .major = 15, .wal_segment_bytes = kSmallSegment, .start = start, .end = end};
    WalFilter whole(options, one_table());
    const Bytes at_once = filter(whole, wal, wal.size());
    WalFilter by_page(options, one_table());
    EXPECT_EQ(filter(by_page, wal, 8192), at_once);
    const auto before = read(15, wal, start);
    const auto after = read(15, at_once, start);
    ASSERT_EQ(before.size(), after.size());
    for (std::size_t i = 0; i < before.size(); ++i) ASSERT_EQ(before[i].start, after[i].start);
    EXPECT_GT(whole.replaced(), 100U);
    EXPECT_LT(whole.replaced(), whole.records());
  }
}

TEST(WalFilter, GoesOnFromACopyMadeAtASegmentEnd) {
  std::mt19937 random(8);
  Lsn start;
  Lsn end;
  const Bytes wal = random_wal(random, start, end, false);
  const WalFilterOptions options{
      .major = 15, .wal_segment_bytes = kSmallSegment, .start = start, .end = end};
  WalFilter first(options, one_table());
  Bytes once;
  Bytes twice;
  const auto into = [](Bytes& out) {
    return [&out](Lsn, ByteView pages) { out.insert(out.end(), pages.begin(), pages.end()); };
  };
  first.push(ByteView(wal).first(kSmallSegment), into(once));
  WalFilter copy = first;
  twice = once;
  first.push(ByteView(wal).subspan(kSmallSegment), into(once));
  first.finish(into(once));
  copy.push(ByteView(wal).subspan(kSmallSegment), into(twice));
  copy.finish(into(twice));
  EXPECT_EQ(once.size(), wal.size());
  EXPECT_EQ(once, twice);
}

TEST(WalFilter, LeavesNothingOfAReplacedRecord) {
  WalBuilder builder(15, kStart, kSmallSegment);
  WalBuilder::Record secret{.resource_manager = 10, .blocks = {{kOtherRelation, 1, 4000}}};
  const Lsn start = builder.add(secret);
  for (int i = 0; i < 600; ++i) builder.add(secret);
  WalFilter subject(
      {.major = 15, .wal_segment_bytes = kSmallSegment, .start = start, .end = builder.position()},
      one_table());
  const Bytes out = filter(subject, builder.whole_segments());
  EXPECT_EQ(subject.replaced(), 601U);
  EXPECT_EQ(std::search_n(out.begin(), out.end(), 8, std::byte{0x5A}), out.end());
}

TEST(WalFilter, BlanksWhatLiesOutsideWhenAskedTo) {
  WalBuilder builder(15, kStart, kSmallSegment);
  const WalBuilder::Record secret{.resource_manager = 10, .blocks = {{kOtherRelation, 1, 4000}}};
  const WalBuilder::Record wanted{.resource_manager = 10, .blocks = {{kWantedRelation, 1, 100}}};
  for (int i = 0; i < 30; ++i) builder.add(secret);
  const Lsn start = builder.add(wanted);
  for (int i = 0; i < 30; ++i) builder.add(secret);
  const Lsn last = builder.add(wanted);
  for (int i = 0; i < 30; ++i) builder.add(secret);
  const Lsn end{last.value + 1};
  const Bytes wal = builder.whole_segments();
  WalFilter subject({.major = 15,
                     .wal_segment_bytes = kSmallSegment,
                     .start = start,
                     .end = end,
                     .outside = WalFilterOptions::Outside::Blank},
                    one_table());
  EXPECT_FALSE(subject.complete());
  const Bytes out = filter(subject, wal);
  EXPECT_TRUE(subject.complete());
  // Only the two wanted records' data is left of all that was written.
  EXPECT_EQ(std::ranges::count(out, std::byte{0x5A}), 200);
  // Readers get as far as before: the first record that counts, the last one, and no further.
  const auto records = read(15, out, start);
  ASSERT_EQ(records.size(), 32U);
  EXPECT_EQ(records.front().start, start);
  EXPECT_EQ(records.back().start, last);
  EXPECT_FALSE(records.back().noop());
  EXPECT_TRUE(records[1].noop());
}

TEST(WalFilter, BlanksTheRestOfARecordFromBeforeTheStart) {
  WalBuilder builder(15, kStart, kSmallSegment);
  builder.add({.resource_manager = 10, .blocks = {{kOtherRelation, 1, 20000}}});
  const Lsn start = builder.add({.resource_manager = 10, .blocks = {{kWantedRelation, 1, 100}}});
  WalFilter subject({.major = 15,
                     .wal_segment_bytes = kSmallSegment,
                     .start = start,
                     .end = builder.position(),
                     .outside = WalFilterOptions::Outside::Blank},
                    one_table());
  const Bytes out = filter(subject, builder.whole_segments(), 8192);
  EXPECT_EQ(std::ranges::count(out, std::byte{0x5A}), 100);
  EXPECT_EQ(read(15, out, start).size(), 1U);
}

TEST(WalFilter, FindsDamageBeforeTheEndAndIgnoresItAfter) {
  std::mt19937 random(9);
  Lsn start;
  Lsn end;
  const Bytes wal = random_wal(random, start, end, false);
  int found = 0;
  for (int round = 0; round < 100; ++round) {
    Bytes damaged = wal;
    // Not the first page, whose header a record may still hide in.
    const std::size_t at = 8192 + random() % (end.value - kStart.value - 8192);
    damaged[at] ^= std::byte{0x10};
    WalFilter subject({.major = 15, .wal_segment_bytes = kSmallSegment, .start = start, .end = end},
                      one_table());
    try {
      filter(subject, damaged);
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kDataCorrupted) << error.message();
      ++found;
    }
  }
  // The others hit padding, or a page header's bytes that nothing checks.
  EXPECT_GT(found, 90);
  Bytes after = wal;
  for (std::size_t at = end.value - kStart.value; at < after.size(); ++at) after[at] = std::byte{1};
  WalFilter subject({.major = 15, .wal_segment_bytes = kSmallSegment, .start = start, .end = end},
                    one_table());
  EXPECT_NO_THROW(filter(subject, after));
}

TEST(WalFilter, WantsAllOfTheWal) {
  WalBuilder builder(15, kStart, kSmallSegment);
  const Lsn start = builder.add({.resource_manager = 3, .main_data = Bytes(4)});
  WalFilter subject({.major = 15,
                     .wal_segment_bytes = kSmallSegment,
                     .start = start,
                     .end = Lsn{kStart.value + kSmallSegment + 1}},
                    one_table());
  EXPECT_THROW(filter(subject, builder.whole_segments()), Error);
}

TEST(NoopRecord, HasEveryLengthButTwentyFive) {
  Bytes header(24, std::byte{0x11});
  for (std::uint32_t total = 24; total < 700; ++total) {
    store(header, 0, total);
    if (total == 25) {
      EXPECT_THROW(noop_record(header, total), Error);
      continue;
    }
    Bytes record = noop_record(header, total);
    ASSERT_LE(record.size(), total);
    const std::uint32_t crc = load<std::uint32_t>(record, 20);
    record.resize(total);
    const ByteView view = record;
    EXPECT_EQ(crc32c(view.first(20), crc32c(view.subspan(24))), crc);
  }
}

}  // namespace
}  // namespace holdfast::postgres
