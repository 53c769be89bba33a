#include "collection/block_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>

#include "base/error.h"
#include "collection/envelope_internal.h"

namespace holdfast::collection {
namespace {

using postgres::Fork;
using postgres::Lsn;
using postgres::RelationLocator;
using ::testing::ElementsAre;

constexpr RelationLocator kTable{1663, 5, 16384};
constexpr RelationLocator kOtherRelation{1663, 5, 16385};

WalCoverage covering(std::uint64_t start, std::uint64_t end) {
  return {.system_identifier = 77, .timeline = 1, .start = Lsn{start}, .end = Lsn{end}};
}

std::string print(const BlockMap& map) {
  std::string text = map.is_wal_minimal() ? "minimal " : "";
  for (const auto& [database, tablespace] : map.databases()) {
    text += "db" + std::to_string(database) + "/" + std::to_string(tablespace) + " ";
  }
  map.for_each([&](const ForkLocator& fork, const ForkChanges& changes) {
    text +=
        std::to_string(fork.relation.relation) + "." + std::to_string(static_cast<int>(fork.fork));
    if (changes.limit != ForkChanges::kNoLimit) text += "<" + std::to_string(changes.limit);
    for (const BlockRun& run : changes.blocks.runs()) {
      text += " " + std::to_string(run.first) + "+" + std::to_string(run.count);
    }
    text += "; ";
  });
  return text;
}

TEST(BlockMap, KeepsOnlyBlocksBelowTheLimit) {
  BlockMap map(covering(100, 200));
  for (const std::uint32_t block : {1U, 2U, 9U}) map.change({kTable, Fork::Main, block});
  map.from({kTable, Fork::Main, 5});
  map.change({kTable, Fork::Main, 7});
  map.from({kTable, Fork::Main, 8});
  ASSERT_NE(map.find(kTable, Fork::Main), nullptr);
  EXPECT_EQ(map.find(kTable, Fork::Main)->limit, 5U);
  EXPECT_THAT(map.find(kTable, Fork::Main)->blocks.runs(), ElementsAre(BlockRun{1, 2}));
  EXPECT_EQ(map.find(kTable, Fork::Init), nullptr);
  EXPECT_EQ(map.find(kOtherRelation, Fork::Main), nullptr);
}

TEST(BlockMap, LeavesOutForksThatAreCopiedWhole) {
  BlockMap map(covering(100, 200));
  map.change({kTable, Fork::VisibilityMap, 1});
  map.from({kTable, Fork::FreeSpaceMap, 0});
  EXPECT_EQ(print(map), "");
}

TEST(BlockMap, TakesADroppedRelationAndADatabaseWhole) {
  BlockMap map(covering(100, 200));
  map.relation(kTable);
  map.change({{1700, 9, 1}, Fork::Main, 3});
  map.database(9, 1700);
  EXPECT_EQ(print(map), "db9/1700 16384.0<0; 16384.3<0; ");
  EXPECT_EQ(map.find({1700, 9, 4242}, Fork::Main)->limit, 0U);
  EXPECT_EQ(map.find({1663, 9, 4242}, Fork::Main), nullptr);
}

TEST(BlockMap, MergesWhateverTheOrderOfLimits) {
  BlockMap first(covering(100, 200));
  first.change({kTable, Fork::Main, 3});
  first.change({kTable, Fork::Main, 30});
  first.from({kOtherRelation, Fork::Main, 10});
  BlockMap second({.system_identifier = 77, .timeline = 2, .start = Lsn{200}, .end = Lsn{300}});
  second.from({kTable, Fork::Main, 20});
  second.change({kTable, Fork::Main, 4});
  second.change({kOtherRelation, Fork::Main, 2});
  second.change({kOtherRelation, Fork::Main, 11});
  second.database(6, 1663);
  second.wal_minimal();
  first.merge(second);
  EXPECT_EQ(print(first), "minimal db6/1663 16384.0<20 3+2; 16385.0<10 2+1; ");
  EXPECT_EQ(first.coverage().start, Lsn{100});
  EXPECT_EQ(first.coverage().end, Lsn{300});
  EXPECT_EQ(first.coverage().timeline, 2U);
}

BlockMap with_records(std::uint64_t start, std::uint64_t end, WalRecordChain records) {
  BlockMap map(covering(start, end));
  map.set_records(records);
  return map;
}

TEST(BlockMap, SharesNothingWithItsCopies) {
  BlockMap map(covering(100, 200));
  map.change({kTable, Fork::Main, 1});
  BlockMap copy = map;
  copy.change({kTable, Fork::Main, 2});
  map.change({kTable, Fork::Main, 3});
  BlockMap moved = std::move(map);
  map = BlockMap(covering(200, 300));
  map.change({kTable, Fork::Main, 4});
  moved.change({kTable, Fork::Main, 5});
  copy = moved;
  moved = BlockMap(covering(200, 300));
  moved.change({kTable, Fork::Main, 6});
  copy.change({kTable, Fork::Main, 7});
  EXPECT_EQ(print(map), "16384.0 4+1; ");
  EXPECT_EQ(print(moved), "16384.0 6+1; ");
  EXPECT_EQ(print(copy), "16384.0 1+1 3+1 5+1 7+1; ");
}

// Sixteen relations apart, and another fork.
TEST(BlockMap, TellsForksApart) {
  BlockMap map(covering(100, 200));
  for (const std::uint32_t block : {1U, 2U}) {
    for (const std::uint32_t other : {0U, 16U, 32U}) {
      map.change({{1663, 5, kTable.relation + other}, Fork::Main, block + other});
    }
    map.change({kTable, Fork::Init, 70 + block});
    map.change({{1663, 6, kTable.relation}, Fork::Main, 80 + block});
  }
  EXPECT_EQ(print(map), "16384.0 1+2; 16384.3 71+2; 16400.0 17+2; 16416.0 33+2; 16384.0 81+2; ");
}

TEST(BlockMap, IsTiedToTheOneBeforeByTheirRecords) {
  const BlockMap first = with_records(100, 200, {.previous = Lsn{90}, .last = Lsn{180}});
  const BlockMap empty(covering(200, 300));
  const BlockMap next = with_records(200, 300, {.previous = Lsn{180}, .last = Lsn{290}});
  const BlockMap other = with_records(200, 300, {.previous = Lsn{188}, .last = Lsn{290}});
  EXPECT_TRUE(next.continues(first));
  EXPECT_FALSE(other.continues(first));
  // Nothing is known of a map of version 1, nor of a range in which no record begins.
  EXPECT_TRUE(empty.continues(first));
  EXPECT_TRUE(other.continues(BlockMap(covering(100, 200))));
  BlockMap merged = first;
  merged.merge(next);
  EXPECT_EQ(merged.records(), (WalRecordChain{.previous = Lsn{90}, .last = Lsn{290}}));
  BlockMap over_empty = first;
  over_empty.merge(empty);
  EXPECT_FALSE(over_empty.records().known());
  EXPECT_TRUE(
      with_records(300, 400, {.previous = Lsn{288}, .last = Lsn{390}}).continues(over_empty));
  BlockMap from_empty(covering(100, 200));
  from_empty.merge(next);
  EXPECT_EQ(from_empty.records(), next.records());
}

TEST(BlockMap, RefusesRecordsThatAreElsewhere) {
  for (const WalRecordChain& records : {WalRecordChain{.previous = Lsn{100}, .last = Lsn{180}},
                                        WalRecordChain{.previous = Lsn{90}, .last = Lsn{99}},
                                        WalRecordChain{.previous = Lsn{90}, .last = Lsn{200}}}) {
    EXPECT_THROW(parse_block_map(serialize(with_records(100, 200, records)), "x"), Error);
  }
}

BlockMap random_map(std::mt19937& random) {
  BlockMap map(covering(1U << 24, 2U << 24));
  for (int i = 0; i < 400; ++i) {
    const RelationLocator relation{1663, static_cast<std::uint32_t>(random() % 3),
                                   static_cast<std::uint32_t>(16384 + random() % 20)};
    const auto block = static_cast<std::uint32_t>(random() % (1U << random() % 32));
    switch (random() % 40) {
      case 0:
        map.relation(relation);
        break;
      case 1:
        map.from({relation, Fork::Main, block});
        break;
      case 2:
        map.database(relation.database + 100, 1663);
        break;
      default:
        for (std::uint32_t k = 0; k < 30; ++k) map.change({relation, Fork::Main, block + k});
    }
  }
  if (random() % 2 == 0) map.wal_minimal();
  if (random() % 2 == 0) {
    map.set_records(
        {.previous = Lsn{random() % (1U << 24)}, .last = Lsn{(1U << 24) + random() % (1U << 24)}});
  }
  return map;
}

TEST(BlockMap, ReadsBackWhatWasWritten) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    const BlockMap map = random_map(random);
    const Bytes stored = serialize(map);
    const BlockMap again = parse_block_map(stored, "x.blocks");
    EXPECT_EQ(again.coverage(), map.coverage());
    EXPECT_EQ(again.records(), map.records());
    ASSERT_EQ(print(again), print(map));
    EXPECT_EQ(serialize(again), stored);
  }
}

TEST(BlockMap, RefusesDamage) {
  std::mt19937 random(4);
  const Bytes stored = serialize(random_map(random));
  for (std::size_t at = 0; at < stored.size(); at += 1 + stored.size() / 300) {
    Bytes damaged = stored;
    damaged[at] ^= std::byte{0x10};
    EXPECT_THROW(parse_block_map(damaged, "x.blocks"), Error) << at;
    EXPECT_THROW(parse_block_map(ByteView(stored).first(at), "x.blocks"), Error);
  }
}

/// The plain bytes of a map with one fork of one run, to be made impossible.
Bytes plain_map() {
  BlockMap map(covering(1U << 24, 2U << 24));
  map.change({kTable, Fork::Main, 3});
  return open_envelope(serialize(map), "x");
}

TEST(BlockMap, RefusesWhatNoWalCanSay) {
  const Bytes plain = plain_map();
  // databases, forks, tablespace (2), database, relation (3), fork, limit, runs, gap, count - 1
  ASSERT_EQ(plain.size(), 40U + 13U);
  const auto with = [&](std::size_t at, std::initializer_list<int> bytes, std::size_t cut = 0) {
    Bytes changed(plain.begin(), plain.begin() + static_cast<std::ptrdiff_t>(at));
    for (const int byte : bytes) changed.push_back(static_cast<std::byte>(byte));
    changed.insert(changed.end(), plain.begin() + static_cast<std::ptrdiff_t>(at + cut),
                   plain.end());
    return seal_envelope(changed);
  };
  EXPECT_NO_THROW(parse_block_map(with(0, {}), "x"));
  // A run longer than 16 MiB of WAL can name: 2^28 blocks.
  EXPECT_THROW(parse_block_map(with(52, {0x80, 0x80, 0x80, 0x80, 0x01}, 1), "x"), Error);
  // A run that ends after the last block number.
  EXPECT_THROW(parse_block_map(with(51, {0xFF, 0xFF, 0xFF, 0xFF, 0x0F}, 1), "x"), Error);
  EXPECT_THROW(parse_block_map(with(48, {2}, 1), "x"), Error);  // the visibility map
  EXPECT_THROW(parse_block_map(with(49, {3}, 1), "x"), Error);  // a limit of 2 below block 3
  EXPECT_THROW(parse_block_map(with(53, {0}), "x"), Error);     // more than all of it
  EXPECT_THROW(parse_block_map(with(52, {}, 1), "x"), Error);   // less
  EXPECT_THROW(parse_block_map(with(52, {0x80, 0x00}, 1), "x"), Error);  // a long zero
  EXPECT_THROW(parse_block_map(with(20, {2}, 1), "x"), Error);           // an unknown flag
  EXPECT_THROW(parse_block_map(with(39, {1}, 1), "x"), Error);           // the end far away
  try {
    parse_block_map(with(4, {3}, 1), "x.blocks");
    ADD_FAILURE() << "a newer version was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kFeatureNotSupported);
  }
}

}  // namespace
}  // namespace holdfast::collection
