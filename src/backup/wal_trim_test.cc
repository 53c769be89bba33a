#include "backup/wal_trim.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>

#include "base/error.h"
#include "collection/block_map_store.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "collection/milestone.h"
#include "collection/wal_archive.h"
#include "collection/wal_tail.h"
#include "postgres/testing/segment_size.h"
#include "storage/fault_store.h"
#include "storage/memory_store.h"

namespace holdfast::backup {
namespace {

using postgres::testing::kSmallSegment;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint64_t kTrimSystem = 42;

collection::WalSegmentId id(std::uint64_t segment, std::uint32_t timeline = 1) {
  return {.system_identifier = kTrimSystem,
          .timeline = timeline,
          .segment = segment,
          .segment_bytes = kSmallSegment};
}

/// Segments 10 to 20 of timeline 1, with their maps; 20 has a tail too.
class WalTrimTest : public ::testing::Test {
 protected:
  WalTrimTest() {
    for (std::uint64_t segment = 10; segment <= 20; ++segment) put(segment);
    put_object(collection::wal_tail_key(id(12), 100));
    put_object(collection::wal_tail_key(id(20), 100));
  }

  void put_object(const std::string& key) {
    store_.put(key, as_bytes("x"), storage::PutMode::OnlyIfAbsent, stop_);
  }
  void put(std::uint64_t segment, std::uint32_t timeline = 1) {
    put_object(collection::wal_key(kTrimSystem, timeline, segment, kSmallSegment));
    put_object(collection::block_map_key(id(segment, timeline)));
  }

  /// A full that needs these segments.
  void chain(std::uint64_t first, std::uint64_t last, std::uint32_t timeline = 1) {
    auto& layer = survey_.chains.emplace_back().layers.emplace_back();
    layer.mutable_instance()->set_system_identifier(kTrimSystem);
    layer.mutable_instance()->set_wal_segment_bytes(kSmallSegment);
    layer.mutable_start()->set_timeline(timeline);
    layer.mutable_start()->set_position(first * kSmallSegment + 40);
    layer.mutable_stop()->set_timeline(timeline);
    layer.mutable_stop()->set_position((last + 1) * kSmallSegment);
    for (std::uint64_t segment = first; segment <= last; ++segment) {
      auto& named = *layer.add_wal();
      named.set_timeline(timeline);
      named.set_segment(segment);
    }
  }

  std::vector<TrimmedWal> trim() { return trim_wal(store_, survey_, stop_); }
  std::vector<std::uint64_t> segments(std::uint32_t timeline = 1) {
    return collection::list_wal_segments(store_, kTrimSystem, timeline, kSmallSegment, stop_);
  }
  std::vector<std::uint64_t> maps(std::uint32_t timeline = 1) {
    std::vector<std::uint64_t> found;
    for (std::uint64_t segment = 0; segment < 40; ++segment) {
      if (store_.stat(collection::block_map_key(id(segment, timeline)), stop_)) {
        found.push_back(segment);
      }
    }
    return found;
  }

  storage::FaultStore store_{std::make_unique<storage::MemoryStore>()};
  collection::Survey survey_;
  Stop stop_ = Stop::never();
};

TEST_F(WalTrimTest, WithoutAnArchiveOnlyWhatManifestsNameStays) {
  chain(13, 14);
  chain(17, 18);
  const auto trimmed = trim();
  ASSERT_THAT(trimmed, SizeIs(1));
  EXPECT_EQ(trimmed[0].system_identifier, kTrimSystem);
  EXPECT_EQ(trimmed[0].refused, 0U);
  // What a backup that begins now may find there stays: it begins behind the newest.
  EXPECT_THAT(segments(), ElementsAre(13, 14, 17, 18, 19, 20));
  // The next layer of the oldest chain may need the maps from its start on.
  EXPECT_THAT(maps(), ElementsAre(13, 14, 15, 16, 17, 18, 19, 20));
  EXPECT_FALSE(store_.stat(collection::wal_tail_key(id(12), 100), stop_));
  EXPECT_TRUE(store_.stat(collection::wal_tail_key(id(20), 100), stop_));
  EXPECT_THAT(trim(), IsEmpty());
}

TEST_F(WalTrimTest, AnArchiveKeepsEverythingFromTheOldestStartOn) {
  collection::mark_wal_archive(store_, kTrimSystem, stop_);
  chain(13, 14);
  chain(17, 18);
  trim();
  EXPECT_THAT(segments(), ElementsAre(13, 14, 15, 16, 17, 18, 19, 20));
  EXPECT_THAT(maps(), ElementsAre(13, 14, 15, 16, 17, 18, 19, 20));
  EXPECT_TRUE(collection::is_wal_archive(store_, kTrimSystem, stop_));
}

TEST_F(WalTrimTest, MilestonesGoWithTheWalThatTheyAreIn) {
  collection::mark_wal_archive(store_, kTrimSystem, stop_);
  const auto key = [](std::uint64_t segment) {
    return collection::milestone_key(kTrimSystem, 1, postgres::Lsn{segment * kSmallSegment + 1000});
  };
  for (const std::uint64_t segment : {11U, 13U, 15U}) put_object(key(segment));
  put_object(collection::milestone_directory(kTrimSystem) + "/kept.txt");
  chain(13, 14);
  const auto trimmed = trim();
  EXPECT_FALSE(store_.stat(key(11), stop_));
  EXPECT_TRUE(store_.stat(key(13), stop_));
  EXPECT_TRUE(store_.stat(key(15), stop_));
  EXPECT_TRUE(store_.stat(collection::milestone_directory(kTrimSystem) + "/kept.txt", stop_));
  ASSERT_THAT(trimmed, SizeIs(1));
  EXPECT_EQ(trimmed[0].refused, 0U);
  // Segments 10 to 12 with their maps, a tail of 12, and a milestone.
  EXPECT_EQ(trimmed[0].objects, 3U * 2 + 1 + 1);
}

TEST_F(WalTrimTest, AnArchiveKeepsOtherTimelinesToo) {
  collection::mark_wal_archive(store_, kTrimSystem, stop_);
  // Promoted at 15; and restored to a moment in 12, from where timeline 3 goes on.
  for (std::uint64_t segment = 15; segment <= 18; ++segment) put(segment, 2);
  for (std::uint64_t segment = 12; segment <= 16; ++segment) put(segment, 3);
  put_object("wal/42/00000002.history");
  chain(14, 15);
  chain(16, 16, 2);
  trim();
  EXPECT_THAT(segments(1), ElementsAre(14, 15, 16, 17, 18, 19, 20));
  EXPECT_THAT(segments(2), ElementsAre(15, 16, 17, 18));
  EXPECT_THAT(segments(3), ElementsAre(14, 15, 16));
  EXPECT_TRUE(store_.stat("wal/42/00000002.history", stop_));
}

TEST_F(WalTrimTest, SegmentsOfOneNumberOnTwoTimelinesAreTwo) {
  put(14, 2);
  chain(14, 14, 2);
  chain(18, 18);
  trim();
  EXPECT_THAT(segments(1), ElementsAre(18, 19, 20));
  EXPECT_THAT(segments(2), ElementsAre(14));
}

TEST_F(WalTrimTest, AnArchiveWithoutAChainStays) {
  collection::mark_wal_archive(store_, kTrimSystem, stop_);
  EXPECT_THAT(trim(), IsEmpty());
  EXPECT_THAT(segments(), SizeIs(11));
}

/// Of databases or tables, with WAL of its own.
void keep_own_wal(collection::SurveyedChain& chain) {
  auto& layer = chain.layers.back();
  layer.set_scope(collection::proto::SCOPE_TABLES);
  layer.set_wal_directory("2026/11/20-223000.00/wal/x");
}

TEST_F(WalTrimTest, AScopedChainHoldsBackNothingButTheMapsOfItsNextLayer) {
  collection::mark_wal_archive(store_, kTrimSystem, stop_);
  const auto milestone =
      collection::milestone_key(kTrimSystem, 1, postgres::Lsn{12 * kSmallSegment});
  put_object(milestone);
  chain(11, 11);
  keep_own_wal(survey_.chains[0]);
  // Alone: the archive may wait for a full of the cluster.
  trim();
  EXPECT_THAT(segments(), SizeIs(11));
  EXPECT_THAT(maps(), ElementsAre(11, 12, 13, 14, 15, 16, 17, 18, 19, 20));
  EXPECT_TRUE(store_.stat(milestone, stop_));
  survey_.chains[0].layers.push_back(survey_.chains[0].layers[0]);
  survey_.chains[0].layers[1].mutable_start()->set_position(14 * kSmallSegment + 40);
  chain(17, 18);
  trim();
  EXPECT_THAT(segments(), ElementsAre(17, 18, 19, 20));
  EXPECT_THAT(maps(), ElementsAre(14, 15, 16, 17, 18, 19, 20));
  EXPECT_FALSE(store_.stat(milestone, stop_));
}

TEST_F(WalTrimTest, WhatAChainWithAnUnknownKeySaysOfItselfIsNotBelieved) {
  constexpr std::string_view kUnknown = "2026/11/20-223000.00";
  collection::mark_wal_archive(store_, kTrimSystem, stop_);
  chain(17, 18);
  survey_.chains.emplace_back().full = kUnknown;
  survey_.chains.back().unreadable = "file appears encrypted";
  collection::PassphraseGuard guard("somebody else's");
  collection::make_scoped_chain(store_, kUnknown, kTrimSystem, guard, stop_);
  ASSERT_TRUE(collection::read_chain_mark(store_, kUnknown, stop_)->own_wal);
  EXPECT_THAT(trim(), IsEmpty());
  EXPECT_THAT(segments(), SizeIs(11));
}

TEST_F(WalTrimTest, WalOfAClusterWithoutAChainGoes) {
  trim();
  EXPECT_THAT(segments(), IsEmpty());
  EXPECT_THAT(maps(), IsEmpty());
}

TEST_F(WalTrimTest, EverythingStaysWhenSomethingIsNotSure) {
  chain(18, 18);
  const collection::Survey sure = survey_;
  survey_.chains.emplace_back().unreadable = "a newer format";
  survey_.chains.back().full = "2026/11/20-223000.00";
  EXPECT_THAT(trim(), IsEmpty());
  survey_ = sure;
  survey_.unfinished.emplace_back().directory = "2026/11/20-223000.00";
  EXPECT_THAT(trim(), IsEmpty());
  survey_ = sure;
  survey_.chains[0].layers.push_back(survey_.chains[0].layers[0]);
  survey_.chains[0].layers[1].mutable_instance()->set_wal_segment_bytes(16U << 20);
  EXPECT_THAT(trim(), IsEmpty());
  EXPECT_THAT(segments(), SizeIs(11));
}

TEST_F(WalTrimTest, TellsWhatTheStorageKeeps) {
  store_.add({.call = storage::StoreCall::Remove,
              .times = 1000,
              .error = Error(sqlstate::kInsufficientPrivilege, "write-once")});
  chain(18, 18);
  const auto trimmed = trim();
  ASSERT_THAT(trimmed, SizeIs(1));
  EXPECT_EQ(trimmed[0].objects, 0U);
  EXPECT_EQ(trimmed[0].refused, 17U);  // 8 segments, 8 maps, a tail
  EXPECT_THAT(segments(), SizeIs(11));
}

// Of a segment in parts, part 0 goes first: what is left is none.
TEST_F(WalTrimTest, RemovesTheFirstPartFirst) {
  const auto part = [](std::uint64_t segment, int n) {
    auto key = collection::wal_key(kTrimSystem, 1, segment, kSmallSegment);
    return key.insert(key.size() - 4, fmt::format(".{}", n));
  };
  put_object(part(11, 1));
  chain(18, 18);
  store_.add({.call = storage::StoreCall::Remove, .key_pattern = "*.1.wal"});
  EXPECT_THROW(trim(), Error);
  EXPECT_THAT(segments(), ElementsAre(18, 19, 20));
  trim();
  EXPECT_FALSE(store_.stat(part(11, 1), stop_));
}

constexpr std::string_view kBegun = "2026/11/20-223000.00";

// Nothing is known yet of a cluster that has its first backup taken.
TEST_F(WalTrimTest, ABackupThatBeganSinceTheSurveyKeepsItsWal) {
  collection::take_lock(store_, kBegun, 4711, stop_);
  put(25);
  EXPECT_THAT(trim(), IsEmpty());
  EXPECT_THAT(segments(), SizeIs(12));
  collection::release_lock(store_, kBegun, 4711, stop_);
  trim();
  EXPECT_THAT(segments(), IsEmpty());
}

TEST_F(WalTrimTest, OneThatHasEndedSinceTheSurveyKeepsItsWalToo) {
  put_object(std::string(kBegun) + "/BACKUP_MANIFEST");
  EXPECT_THAT(trim(), IsEmpty());
  EXPECT_THAT(segments(), SizeIs(11));
}

/// Lets something happen at the first removal.
class InterruptedTrim : public storage::MemoryStore {
 public:
  std::function<void()> meanwhile;
  void remove(const storage::ObjectKey& key, const Stop& stop) override {
    std::call_once(once_, [&] { meanwhile(); });
    storage::MemoryStore::remove(key, stop);
  }

 private:
  std::once_flag once_;
};

TEST_F(WalTrimTest, ABackupThatBeginsWhileWalIsRemovedKeepsTheRest) {
  InterruptedTrim store;
  for (std::uint64_t segment = 100; segment < 300; ++segment) {
    store.put(collection::wal_key(kTrimSystem, 1, segment, kSmallSegment), as_bytes("x"),
              storage::PutMode::OnlyIfAbsent, stop_);
  }
  store.meanwhile = [&] { collection::take_lock(store, kBegun, 4711, stop_); };
  // A standby's backup begins before the end of the newest chain's WAL.
  chain(400, 401);
  const auto trimmed = trim_wal(store, survey_, stop_);
  ASSERT_THAT(trimmed, SizeIs(1));
  EXPECT_LT(trimmed[0].objects, 100U);
  const auto kept = collection::list_wal_segments(store, kTrimSystem, 1, kSmallSegment, stop_);
  EXPECT_EQ(kept.size(), 200 - trimmed[0].objects);
  EXPECT_EQ(kept.back(), 299U);
}

}  // namespace
}  // namespace holdfast::backup
