#include "backup/incremental_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "collection/format.h"
#include "postgres/page.h"

namespace holdfast::backup {
namespace {

using collection::BlockMap;
using collection::kBlockBytes;
using collection::kFrameBlocks;
using postgres::Fork;
using postgres::kRelationSegmentBlocks;
using postgres::RelationLocator;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using How = Selection::How;

constexpr RelationLocator kTable{.tablespace = 1663, .database = 5, .relation = 1000};

class IncrementalPlanTest : public ::testing::Test {
 protected:
  /// Blocks of a file in the base; absent with 0 blocks and no id.
  void former(const std::string& name, std::uint32_t id, std::uint64_t size,
              const std::string& hashes = "") {
    auto& file = *base_.add_files();
    file.set_id(id);
    file.set_path("base/5/" + name);
    file.set_size(size);
    file.set_frame_hashes(hashes);
    file.set_kind(collection::proto::FILE_KIND_RELATION);
  }

  void now(const std::string& name, std::uint64_t size, bool by_blocks = true) {
    if (state_.files.directories().empty()) state_.files.add_directory("base/5", 0700);
    positions_[name] = state_.files.size();
    state_.files.add_file({.directory = 0,
                           .name = name,
                           .size = size,
                           .mode = 0600,
                           .kind = collection::proto::FILE_KIND_RELATION,
                           .by_blocks = by_blocks});
  }

  void plan(BlockMap map) {
    plan_incremental(base_, {.map = std::move(map), .since = postgres::Lsn{100}}, nullptr, state_);
  }

  How how(const std::string& name) { return state_.selection.how(positions_.at(name)); }
  std::uint32_t id(const std::string& name) { return state_.files[positions_.at(name)].id; }

  /// What is taken of a file, as block numbers in it.
  std::vector<std::uint32_t> taken(const std::string& name) {
    std::vector<std::uint32_t> blocks;
    const std::size_t position = positions_.at(name);
    const std::uint32_t first = state_.files[position].first_frame;
    for (std::uint32_t frame = 0; frame < state_.files.planned_frames(position); ++frame) {
      const auto selected = state_.selection.blocks(first + frame);
      EXPECT_EQ(state_.done[first + frame], selected.none()) << name << " frame " << frame;
      for (std::uint32_t i = 0; i < kFrameBlocks; ++i) {
        if (selected.test(i)) {
          blocks.push_back(frame * static_cast<std::uint32_t>(kFrameBlocks) + i);
        }
      }
    }
    return blocks;
  }

  collection::proto::Manifest base_;
  CopyState state_;
  std::map<std::string, std::size_t> positions_;
};

TEST_F(IncrementalPlanTest, TakesChangedBlocksAndWhatAFileGrewBy) {
  former("1000", 7, 200 * kBlockBytes);
  now("1000", 203 * kBlockBytes);
  BlockMap map;
  for (const std::uint32_t block : {0U, 5U, 130U, 999U}) {
    map.change({.relation = kTable, .fork = Fork::Main, .block = block});
  }
  plan(std::move(map));
  EXPECT_EQ(how("1000"), How::Blocks);
  EXPECT_EQ(id("1000"), 7U);
  EXPECT_THAT(taken("1000"), ElementsAre(0, 5, 130, 200, 201, 202));
}

TEST_F(IncrementalPlanTest, PagesOfACopiedDatabaseSayNothingOfWhatChanged) {
  former("1000", 7, 10 * kBlockBytes);
  now("1000", 10 * kBlockBytes);
  plan_incremental(base_,
                   {.map = std::nullopt, .since = postgres::Lsn{100}, .changed_databases = {4, 5}},
                   nullptr, state_);
  EXPECT_EQ(how("1000"), How::Whole);
  EXPECT_NE(id("1000"), 7U);
}

TEST_F(IncrementalPlanTest, AnUnchangedRelationIsNotRead) {
  former("1000", 7, 200 * kBlockBytes);
  now("1000", 200 * kBlockBytes);
  plan(BlockMap());
  EXPECT_THAT(taken("1000"), IsEmpty());
  EXPECT_EQ(bytes_to_copy(state_), 0U);
}

TEST_F(IncrementalPlanTest, TakesEverythingFromWhereARelationWasTruncated) {
  former("1000", 7, 10 * kBlockBytes);
  now("1000", 9 * kBlockBytes);  // cut to 6, grown to 9
  BlockMap map;
  map.from({.relation = kTable, .fork = Fork::Main, .block = 6});
  map.change({.relation = kTable, .fork = Fork::Main, .block = 2});
  plan(std::move(map));
  EXPECT_THAT(taken("1000"), ElementsAre(2, 6, 7, 8));
}

TEST_F(IncrementalPlanTest, ATruncationReachesTheSegmentsBehindIt) {
  const std::uint64_t segment = std::uint64_t{kRelationSegmentBlocks} * kBlockBytes;
  former("1000", 7, segment);
  former("1000.1", 8, segment);
  former("1000.2", 9, segment);
  now("1000", segment);
  now("1000.1", segment);
  now("1000.2", 4 * kBlockBytes);
  BlockMap map;
  map.from({.relation = kTable, .fork = Fork::Main, .block = 2 * kRelationSegmentBlocks - 2});
  map.change({.relation = kTable, .fork = Fork::Main, .block = kRelationSegmentBlocks + 1});
  plan(std::move(map));
  EXPECT_THAT(taken("1000"), IsEmpty());
  EXPECT_THAT(taken("1000.1"),
              ElementsAre(1, kRelationSegmentBlocks - 2, kRelationSegmentBlocks - 1));
  // Its start is behind the cut: nothing that the base holds of it counts.
  EXPECT_EQ(how("1000.2"), How::Whole);
  EXPECT_GE(id("1000.2"), 10U);
}

TEST_F(IncrementalPlanTest, WhatWasCreatedAnewHasAnIdOfItsOwn) {
  base_.set_next_file_id(50);
  former("1000", 7, 10 * kBlockBytes);
  now("1000", 10 * kBlockBytes);
  now("1001", kBlockBytes);  // the base has none
  BlockMap map;
  map.from({.relation = kTable, .fork = Fork::Main, .block = 0});
  plan(std::move(map));
  EXPECT_EQ(how("1000"), How::Whole);
  EXPECT_EQ(how("1001"), How::Whole);
  EXPECT_EQ(id("1000"), 50U);
  EXPECT_EQ(id("1001"), 51U);
  EXPECT_EQ(state_.files.next_id(), 52U);
}

TEST_F(IncrementalPlanTest, ADatabaseCopiedAsFilesIsWhole) {
  former("1000", 7, 10 * kBlockBytes);
  now("1000", 10 * kBlockBytes);
  BlockMap map;
  map.database(5, 1663);
  plan(std::move(map));
  EXPECT_EQ(how("1000"), How::Whole);
  EXPECT_NE(id("1000"), 7U);
}

TEST_F(IncrementalPlanTest, OtherForksAreComparedWhole) {
  former("1000_vm", 7, kBlockBytes, std::string(16, 'h'));
  former("1000_fsm", 8, kBlockBytes);  // of a base that recorded no checksum
  now("1000_vm", 2 * kBlockBytes, false);
  now("1000_fsm", kBlockBytes, false);
  BlockMap map;
  map.change({.relation = kTable, .fork = Fork::VisibilityMap, .block = 0});
  plan(std::move(map));
  EXPECT_EQ(how("1000_vm"), How::Compare);
  EXPECT_EQ(id("1000_vm"), 7U);
  EXPECT_TRUE(state_.selection.former_hash(state_.files[positions_.at("1000_vm")].first_frame));
  EXPECT_EQ(how("1000_fsm"), How::Whole);
  EXPECT_NE(id("1000_fsm"), 8U);
}

TEST_F(IncrementalPlanTest, AHalfWrittenLastPageIsLeftToReplay) {
  former("1000", 7, 3 * kBlockBytes);
  now("1000", 4 * kBlockBytes + 100);
  plan(BlockMap());
  EXPECT_THAT(taken("1000"), ElementsAre(3));
  EXPECT_EQ(state_.files[positions_.at("1000")].size, 4U * kBlockBytes);
}

TEST_F(IncrementalPlanTest, TheBasesOwnHalfPageIsTakenAgain) {
  former("1000", 7, 3 * kBlockBytes + 100);
  now("1000", 4 * kBlockBytes);
  plan(BlockMap());
  EXPECT_THAT(taken("1000"), ElementsAre(3));
}

TEST_F(IncrementalPlanTest, WithoutWalEveryPageIsLookedAt) {
  former("1000", 7, 3 * kBlockBytes);
  now("1000", 5 * kBlockBytes);
  plan_incremental(base_, {.map = std::nullopt, .since = postgres::Lsn{100}}, nullptr, state_);
  EXPECT_EQ(how("1000"), How::PageLsn);
  EXPECT_EQ(state_.selection.since(), postgres::Lsn{100});
  EXPECT_EQ(state_.selection.former_blocks(positions_.at("1000")), 3U);
  EXPECT_EQ(bytes_to_copy(state_), 5U * kBlockBytes);
}

TEST_F(IncrementalPlanTest, AnEarlierAttemptsIdsAreKept) {
  base_.set_next_file_id(50);
  former("1000", 7, kBlockBytes);
  now("1000", kBlockBytes);
  now("1001", kBlockBytes);
  collection::proto::Manifest earlier;
  for (const auto& [path, number] :
       std::map<std::string, std::uint32_t>{{"base/5/1000", 7}, {"base/5/1001", 64}}) {
    auto& file = *earlier.add_files();
    file.set_path(path);
    file.set_id(number);
  }
  BlockMap map;
  map.from({.relation = kTable, .fork = Fork::Main, .block = 0});
  plan_incremental(base_, {.map = std::move(map), .since = postgres::Lsn{100}}, &earlier, state_);
  EXPECT_EQ(id("1001"), 64U);
  // It was another file in the earlier attempt, which went on from the base.
  EXPECT_EQ(id("1000"), 65U);
}

}  // namespace
}  // namespace holdfast::backup
