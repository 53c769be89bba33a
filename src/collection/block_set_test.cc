#include "collection/block_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

namespace holdfast::collection {
namespace {

using ::testing::ElementsAre;

std::set<std::uint32_t> all_of(const BlockSet& set) {
  std::set<std::uint32_t> blocks;
  std::uint64_t before = 0;
  set.for_each_run([&](const BlockRun& run) {
    EXPECT_GT(run.count, 0U);
    EXPECT_TRUE(blocks.empty() || run.first > before) << "runs touch at " << run.first;
    for (std::uint32_t i = 0; i < run.count; ++i) blocks.insert(run.first + i);
    before = std::uint64_t{run.first} + run.count;
  });
  EXPECT_EQ(blocks.size(), set.size());
  return blocks;
}

TEST(BlockSet, JoinsNeighboursIntoRuns) {
  BlockSet set;
  for (const std::uint32_t block : {7U, 5U, 6U, 65535U, 65536U, 9U, 5U}) set.insert(block);
  EXPECT_THAT(set.runs(), ElementsAre(BlockRun{5, 3}, BlockRun{9, 1}, BlockRun{65535, 2}));
  EXPECT_TRUE(set.contains(6));
  EXPECT_FALSE(set.contains(8));
}

TEST(BlockSet, HoldsARunOverManyChunks) {
  BlockSet set;
  set.insert(BlockRun{60000, 200000});
  set.insert(BlockRun{0xFFFF0000, 0xFFFF});
  EXPECT_THAT(set.runs(), ElementsAre(BlockRun{60000, 200000}, BlockRun{0xFFFF0000, 0xFFFF}));
  set.erase_from(131072 + 10);
  EXPECT_THAT(set.runs(), ElementsAre(BlockRun{60000, 131072 + 10 - 60000}));
  set.erase_from(0);
  EXPECT_TRUE(set.empty());
}

// Every change of form (offsets, bitmap, everything, and back) against std::set.
TEST(BlockSet, DoesWhatASetDoes) {
  std::mt19937 random(7);
  for (int round = 0; round < 12; ++round) {
    BlockSet set;
    std::set<std::uint32_t> expected;
    const std::uint32_t span = round % 3 == 0 ? 70000 : 200000;
    for (int step = 0; step < 40; ++step) {
      const auto block = static_cast<std::uint32_t>(random() % span);
      switch (random() % 5) {
        case 0:
          for (int i = 0; i < 300; ++i) {
            const auto one = static_cast<std::uint32_t>(random() % span);
            set.insert(one);
            expected.insert(one);
          }
          break;
        case 1: {
          const auto count = static_cast<std::uint32_t>(random() % 70000);
          set.insert(BlockRun{block, count});
          for (std::uint32_t i = 0; i < count; ++i) expected.insert(block + i);
          break;
        }
        case 2: {
          BlockSet other;
          for (std::uint32_t i = 0; i < random() % 6000; ++i) {
            const std::uint32_t one = block + i * 3;
            other.insert(one);
            expected.insert(one);
          }
          set.insert(other);
          break;
        }
        case 3:
          set.insert(block);
          expected.insert(block);
          break;
        case 4:
          if (random() % 4 == 0) {
            set.erase_from(block);
            expected.erase(expected.lower_bound(block), expected.end());
          }
          break;
      }
      ASSERT_EQ(set.contains(block), expected.contains(block));
    }
    ASSERT_EQ(all_of(set), expected) << "round " << round;
  }
}

}  // namespace
}  // namespace holdfast::collection
