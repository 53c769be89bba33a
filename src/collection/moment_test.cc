#include "collection/moment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "collection/wal_archive.h"
#include "collection/wal_tail.h"
#include "postgres/testing/segment_size.h"
#include "postgres/testing/wal_builder.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using postgres::Lsn;
using postgres::testing::kSmallSegment;
using postgres::testing::WalBuilder;
using ::testing::HasSubstr;

constexpr std::uint64_t kMomentSystem = 0;  // which WalBuilder writes
constexpr int kMajor = 15;
constexpr std::uint64_t kPostgresEpochSeconds = 946'684'800;

Time at(std::int64_t seconds, std::int64_t microseconds = 0) {
  return Time(std::chrono::microseconds(seconds * 1'000'000 + microseconds));
}

/// A history of commits, kept in an archive.
class MomentTest : public ::testing::Test {
 protected:
  Lsn commit(Time time) {
    Bytes data(8);
    store<std::int64_t>(data, 0,
                        time.time_since_epoch().count() -
                            static_cast<std::int64_t>(kPostgresEpochSeconds) * 1'000'000);
    return wal_.add({.resource_manager = 1, .info = 0x00, .main_data = data});
  }
  Lsn prepare(Time time) {
    Bytes data(64);
    store<std::int64_t>(data, 16,
                        time.time_since_epoch().count() -
                            static_cast<std::int64_t>(kPostgresEpochSeconds) * 1'000'000);
    return wal_.add({.resource_manager = 1, .info = 0x10, .main_data = data});
  }
  Lsn restore_point(const std::string& name) {
    Bytes data(8 + 64);
    std::ranges::copy(as_bytes(name), data.begin() + 8);
    return wal_.add({.resource_manager = 0, .info = 0x70, .main_data = data});
  }
  /// Where the next record begins.
  static Lsn next_record(const WalBuilder& wal) { return Lsn{(wal.position().value + 7) / 8 * 8}; }
  /// About so many bytes of WAL that commit nothing.
  void fill(std::size_t bytes) {
    for (std::size_t done = 0; done < bytes; done += 30000) {
      wal_.add({.resource_manager = 10, .info = 0x00, .main_data = Bytes(30000)});
    }
  }
  /// A layer that ends here.
  void layer(std::string directory, Time end, std::uint32_t timeline = 1) {
    proto::Manifest manifest;
    manifest.set_subdirectory(std::move(directory));
    manifest.set_end_time_us(end.time_since_epoch().count());
    manifest.mutable_stop()->set_timeline(timeline);
    manifest.mutable_stop()->set_position(wal_.add({.resource_manager = 0, .info = 0x20}).value);
    manifest.mutable_instance()->set_system_identifier(kMomentSystem);
    manifest.mutable_instance()->set_wal_segment_bytes(kSmallSegment);
    manifest.mutable_instance()->set_server_version_num(kMajor * 10000);
    layers_.push_back(std::move(manifest));
  }
  /// Archives all but the last `missing` segments, and the beginning of the next.
  void archive(std::uint64_t missing = 0, std::uint32_t timeline = 1) {
    archive_until(wal_, missing, timeline);
  }
  void archive_until(const WalBuilder& wal, std::uint64_t missing, std::uint32_t timeline) {
    const Bytes all = wal.whole_segments();
    const std::uint64_t first = kStart / kSmallSegment;
    const std::uint64_t count = all.size() / kSmallSegment - missing;
    for (std::uint64_t i = 0; i < count; ++i) {
      const WalSegmentId id{kMomentSystem, timeline, first + i, kSmallSegment};
      const auto read = [&](std::uint64_t offset, MutableByteView into) {
        std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(i * kSmallSegment + offset),
                    into.size(), into.begin());
      };
      const std::uint64_t written =
          std::min(kSmallSegment, wal.position().value - kStart - i * kSmallSegment);
      if (written == kSmallSegment) {
        put_wal_segment(store_, id, read, Compression{}, stop_);
      } else {
        put_wal_tail(store_, id, written, read, Compression{}, stop_);
      }
    }
  }
  MomentFinder finder() { return MomentFinder(store_, layers_, stop_); }
  static std::string error_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.message() + " | " + error.detail();
    }
    return "no error";
  }

  static constexpr std::uint64_t kStart = 16 * kSmallSegment;
  WalBuilder wal_{kMajor, Lsn{kStart}, kSmallSegment};
  storage::MemoryStore store_;
  std::vector<proto::Manifest> layers_;
  const Stop stop_ = Stop::never();
};

TEST_F(MomentTest, StopsBeforeTheFirstCommitThatIsLater) {
  layer("full", at(100));
  std::vector<Lsn> commits;
  for (int i = 1; i <= 200; ++i) {
    commits.push_back(commit(at(100 + i)));
    fill(40000);
  }
  archive();
  const auto target_of = [&](Time time) { return finder().at_time(time).target; };
  for (const int i : {1, 2, 57, 58, 133, 199}) {
    // The commit itself, and not the next one, which is a second later.
    for (const Time time : {at(100 + i), at(100 + i, 999'999)}) {
      const auto target = target_of(time);
      ASSERT_TRUE(target) << i;
      EXPECT_GE(target->record, commits[static_cast<std::size_t>(i) - 1]);
      EXPECT_LT(target->record, commits[static_cast<std::size_t>(i)]);
      EXPECT_LE(target->end, commits[static_cast<std::size_t>(i)]);
      EXPECT_EQ(target->timeline, 1U);
    }
  }
  // The last one is known to the microsecond, what came later is not.
  EXPECT_TRUE(target_of(at(300)));
  EXPECT_THAT(error_of([&] { target_of(at(300, 1)); }),
              HasSubstr("1970-01-01 00:01:40+00 to 1970-01-01 00:05:00+00 (timeline 1)"));
  EXPECT_THAT(error_of([&] { target_of(at(99)); }), HasSubstr("do not cover requested time"));
  EXPECT_FALSE(finder().at_time(at(100)).target);
}

TEST_F(MomentTest, BeginsAtTheLastLayerBefore) {
  layer("full", at(100));
  commit(at(101));
  layer("first", at(101));
  commit(at(102));
  layer("second", at(102));
  commit(at(103));
  archive();
  EXPECT_EQ(finder().at_time(at(101, 5)).layer, "first");
  EXPECT_EQ(finder().at_time(at(102)).layer, "second");
  EXPECT_EQ(finder().at_time(at(102, 5)).layer, "second");
  EXPECT_EQ(finder().at_time(at(100, 5)).layer, "full");
}

TEST_F(MomentTest, CommitsSideBySideMayBeOutOfOrder) {
  layer("full", at(100));
  commit(at(101, 10));
  const Lsn later = commit(at(101, 30));
  const Lsn earlier = commit(at(101, 20));
  commit(at(101, 40));
  archive();
  // As PostgreSQL's own recovery to a time: nothing that committed later is ever in it.
  EXPECT_LT(finder().at_time(at(101, 20)).target->record, later);
  EXPECT_EQ(finder().at_time(at(101, 35)).target->record, earlier);
}

TEST_F(MomentTest, WhatIsUnfinishedIsNotReplayed) {
  layer("full", at(100));
  // DROP DATABASE logs that the files are gone before it commits.
  wal_.add({.resource_manager = 4, .info = 0x20, .main_data = Bytes(8)});
  commit(at(110));
  const Lsn second = commit(at(120));
  const Lsn drop = wal_.add({.resource_manager = 4, .info = 0x20, .main_data = Bytes(8)});
  fill(3 * kSmallSegment);
  commit(at(130));
  const Lsn prepared = prepare(at(140));
  const Lsn unfinished = wal_.add({.resource_manager = 10, .info = 0x00, .main_data = Bytes(100)});
  commit(at(150));
  archive();
  // Not even what came before the first commit.
  EXPECT_EQ(finder().at_time(at(105)).layer, "full");
  EXPECT_FALSE(finder().at_time(at(105)).target);
  const auto before_drop = finder().at_time(at(125)).target;
  ASSERT_TRUE(before_drop);
  EXPECT_EQ(before_drop->record, second);
  EXPECT_LE(before_drop->end, drop);
  const auto with_prepared = finder().at_time(at(145)).target;
  ASSERT_TRUE(with_prepared);
  EXPECT_EQ(with_prepared->record, prepared);
  EXPECT_LE(with_prepared->end, unfinished);
  // At a position everything that begins before it is.
  EXPECT_GE(finder().at_lsn(Lsn{drop.value + 1}).target->record, drop);
}

TEST_F(MomentTest, AMarkTellsThatNothingWasCommitted) {
  layer("full", at(100));
  const Lsn last = commit(at(101));
  fill(30000);
  archive();
  EXPECT_THAT(error_of([&] { finder().at_time(at(200)); }), HasSubstr("do not cover"));
  put_wal_time_mark(store_, kMomentSystem, 1, {at(300), wal_.position()}, std::nullopt, stop_);
  EXPECT_GE(finder().at_time(at(200)).target->record, last);
  EXPECT_THAT(error_of([&] { finder().at_time(at(300)); }), HasSubstr("do not cover"));
  const Time end = finder().windows().front().end;
  EXPECT_EQ(end, at(300) - std::chrono::microseconds(1));
  EXPECT_GE(finder().at_time(end).target->record, last);
  // One of WAL that the archive lost proves nothing.
  put_wal_time_mark(store_, kMomentSystem, 1, {at(500), Lsn{wal_.position().value + 8}},
                    WalTimeMark{at(300), wal_.position()}, stop_);
  EXPECT_THAT(error_of([&] { finder().at_time(at(200)); }), HasSubstr("do not cover"));
}

TEST_F(MomentTest, WithoutWalOnlyTheEndsOfLayersCanBeRestored) {
  layer("full", at(1));
  layer("first", at(2));
  layer("second", at(3));
  archive();
  const auto message = [&](Time time) { return error_of([&] { finder().at_time(time); }); };
  EXPECT_EQ(finder().at_time(at(2)).layer, "first");
  EXPECT_THAT(message(at(1, 5)), HasSubstr("revision_history"));
  EXPECT_THAT(message(at(1, 5)), HasSubstr("1970-01-01 00:00:01+00 or 1970-01-01 00:00:02+00"));
  EXPECT_THAT(message(at(0)), HasSubstr("nearest backup time is 1970-01-01 00:00:01+00"));
  EXPECT_THAT(message(at(9)), HasSubstr("nearest backup time is 1970-01-01 00:00:03+00"));
}

TEST_F(MomentTest, ALayerThatEndsInTheWalIsGoneOnFrom) {
  layer("full", at(100));
  std::vector<Lsn> commits;
  for (int i = 1; i <= 20; ++i) commits.push_back(commit(at(100 + i)));
  archive();
  // What a WAL-only layer of 110.5 is.
  const Moment moment = finder().at_time(at(110, 500'000));
  EXPECT_EQ(finder().last_commit_before(moment), at(110));
  proto::Manifest wal_only = layers_.front();
  wal_only.set_subdirectory("wal only");
  wal_only.set_end_time_us(at(110, 500'000).time_since_epoch().count());
  wal_only.mutable_stop()->set_position(moment.target->end.value);
  *wal_only.mutable_recovery_target() = to_proto(*moment.target);
  layers_.push_back(wal_only);

  // Its own end is the target, also where a moment is looked for behind it and nothing followed.
  for (const Time time : {at(110, 500'000), at(110, 600'000)}) {
    const Moment end = finder().at_time(time);
    EXPECT_EQ(end.layer, "wal only");
    ASSERT_TRUE(end.target);
    EXPECT_EQ(end.target->record, moment.target->record);
  }
  EXPECT_EQ(finder().at_lsn(moment.target->end).target->record, moment.target->record);
  EXPECT_EQ(finder().at_time(at(115)).layer, "wal only");
  EXPECT_EQ(finder().at_time(at(115)).target->record, commits[14]);
  EXPECT_EQ(finder().at_time(at(105)).layer, "full");
  ASSERT_EQ(finder().windows().size(), 1U);
  EXPECT_EQ(finder().windows()[0].begin, at(100));
  EXPECT_EQ(finder().windows()[0].end, at(120));
}

TEST_F(MomentTest, ABackupOfWhatNothingCoversIsToldWhatToDo) {
  layer("full", at(100));
  const auto message = [&](Time time) {
    return error_of([&] { MomentFinder(store_, layers_, stop_, MomentFor::Backup).at_time(time); });
  };
  EXPECT_THAT(message(at(101)), HasSubstr("no WAL behind a backup of this collection covers it"));
  commit(at(102));
  archive();
  EXPECT_THAT(message(at(200)), HasSubstr("invalid BACKUP timestamp"));
  EXPECT_THAT(message(at(200)), HasSubstr("1970-01-01 00:01:40+00 to 1970-01-01 00:01:42+00"));
}

TEST_F(MomentTest, AGapEndsAWindow) {
  layer("full", at(100));
  for (int i = 1; i <= 100; ++i) {
    commit(at(100 + i));
    fill(60000);
  }
  layer("second", at(200));
  commit(at(300));
  archive();
  remove_wal_segment(store_, {kMomentSystem, 1, kStart / kSmallSegment + 3, kSmallSegment}, stop_);
  const auto windows = finder().windows();
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_EQ(windows[0].begin, at(100));
  EXPECT_LT(windows[0].end, at(160));
  EXPECT_EQ(windows[0].end_lsn, Lsn{kStart + 3 * kSmallSegment});
  EXPECT_EQ(windows[1].begin, at(200));
  EXPECT_EQ(windows[1].end, at(300));
  EXPECT_TRUE(finder().at_time(windows[0].end).target);
  EXPECT_THAT(error_of([&] { finder().at_time(at(190)); }), HasSubstr("do not cover"));
  EXPECT_EQ(finder().at_time(at(250, 0)).layer, "second");
}

// An archive that gave up and was begun anew on the same timeline.
TEST_F(MomentTest, WhatLeadsUpToAGapCountsAsWhatLiesBehindIt) {
  layer("full", at(100));
  commit(at(101));
  const Lsn last = commit(at(110));
  archive();
  const Lsn first_end = wal_.position();
  const std::uint64_t gap = segment_of(first_end, kSmallSegment);
  put_wal_time_mark(store_, kMomentSystem, 1, {at(150), first_end}, std::nullopt, stop_);
  fill(3 * kSmallSegment);
  layer("second", at(200));
  commit(at(300));
  archive();
  put_wal_time_mark(store_, kMomentSystem, 1, {at(400), wal_.position()}, std::nullopt, stop_);
  for (const std::uint64_t lost : {gap, gap + 1}) {
    remove_wal_segment(store_, {kMomentSystem, 1, lost, kSmallSegment}, stop_);
  }

  EXPECT_EQ(finder().at_time(at(110)).target->record, last);
  EXPECT_EQ(finder().at_time(at(140)).target->record, last);
  EXPECT_THAT(error_of([&] { finder().at_time(at(160)); }), HasSubstr("do not cover"));
  EXPECT_EQ(finder().at_time(at(350)).layer, "second");
  const auto windows = finder().windows();
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_EQ(windows[0].end_lsn, first_end);
  EXPECT_EQ(windows[0].end, at(150) - std::chrono::microseconds(1));
  EXPECT_EQ(windows[1].begin, at(200));
  EXPECT_EQ(windows[1].end, at(400) - std::chrono::microseconds(1));
}

TEST_F(MomentTest, FindsPositionsAndRestorePoints) {
  layer("full", at(100));
  commit(at(101));
  const Lsn first = restore_point("before");
  const Lsn second = commit(at(102));
  layer("second", at(102));
  const Lsn again = restore_point("before");
  const Lsn other = restore_point("beforehand");
  commit(at(103));
  archive();
  EXPECT_EQ(finder().at_lsn(second).target->record, first);
  EXPECT_EQ(finder().at_lsn(Lsn{second.value + 1}).target->record, second);
  EXPECT_EQ(finder().at_lsn(other).layer, "second");
  EXPECT_THAT(error_of([&] { finder().at_lsn(Lsn{kStart}); }), HasSubstr("do not cover"));
  EXPECT_THAT(error_of([&] { finder().at_lsn(Lsn{wal_.position().value + 9}); }),
              HasSubstr("do not cover"));
  const Moment moment = finder().at_restore_point("before");
  EXPECT_EQ(moment.target->record, again);
  EXPECT_EQ(moment.layer, "second");
  EXPECT_THAT(error_of([&] { finder().at_restore_point("none"); }), HasSubstr("\"none\""));
}

TEST_F(MomentTest, FindsWhatEndsAtAPositionOfATimeline) {
  layer("full", at(100));
  const Lsn common_point = restore_point("common");
  const WalBuilder common = wal_;
  const Lsn common_end = next_record(common);
  const Lsn old_point = restore_point("old");
  const Lsn old_end = next_record(wal_);
  commit(at(102));
  archive();
  wal_ = common;
  const std::string history = "1\t" + to_string(common_end) + "\tafter a restore\n";
  put_timeline_history(store_, kMomentSystem, 2, as_bytes(history), stop_);
  const Lsn new_point = restore_point("new");
  const Lsn new_end = next_record(wal_);
  commit(at(120));
  archive(0, 2);

  EXPECT_EQ(finder().behind(1, common_end).target->record, common_point);
  EXPECT_EQ(finder().behind(1, old_end).target->record, old_point);
  EXPECT_EQ(finder().behind(1, old_end).target->timeline, 1U);
  EXPECT_EQ(finder().behind(2, new_end).target->record, new_point);
  EXPECT_EQ(finder().behind(2, new_end).target->timeline, 2U);
  // Two histories have this position; only the timeline tells which is meant.
  ASSERT_EQ(old_end, new_end);
  EXPECT_THAT(error_of([&] { finder().at_lsn(old_end); }), HasSubstr("ambiguous"));

  EXPECT_THAT(error_of([&] { finder().behind(3, new_end); }), HasSubstr("do not cover"));
  EXPECT_THAT(error_of([&] { finder().behind(2, Lsn{kStart}); }), HasSubstr("do not cover"));
  EXPECT_THAT(error_of([&] { finder().behind(2, Lsn{wal_.position().value + 99}); }),
              HasSubstr("do not cover"));
  EXPECT_THAT(error_of([&] { finder().behind(2, Lsn{new_end.value - 8}); }),
              HasSubstr("no WAL record of timeline 2 ends at"));
}

TEST_F(MomentTest, AfterARestoreBothHistoriesCanBeReached) {
  layer("full", at(100));
  const Lsn kept = commit(at(101));
  const WalBuilder common = wal_;
  const Lsn branch = next_record(common);
  const Lsn old_future = commit(at(102));
  commit(at(110));
  archive();
  // Restored to 101, the server works on from 120 on.
  wal_ = common;
  const std::string history = "1\t" + to_string(branch) + "\tafter a restore\n";
  put_timeline_history(store_, kMomentSystem, 2, as_bytes(history), stop_);
  const Lsn new_commit = commit(at(120));
  commit(at(130));
  archive(0, 2);

  const auto before = finder().at_time(at(101, 5));
  EXPECT_EQ(before.target->record, kept);
  EXPECT_EQ(before.target->timeline, 1U);
  EXPECT_EQ(finder().at_time(at(105)).target->record, old_future);
  EXPECT_EQ(finder().at_time(at(105)).target->timeline, 1U);
  EXPECT_EQ(finder().at_time(at(125)).target->record, new_commit);
  EXPECT_EQ(finder().at_time(at(125)).target->timeline, 2U);
  // Between them nobody knows what there was.
  EXPECT_THAT(error_of([&] { finder().at_time(at(115)); }), HasSubstr("do not cover"));
  const auto windows = finder().windows();
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_EQ(windows[0].end, at(110));
  EXPECT_EQ(windows[1].begin, at(120));
  EXPECT_EQ(windows[1].end, at(130));
}

TEST_F(MomentTest, TwoServersThatBothWentOnAreAmbiguous) {
  layer("full", at(100));
  commit(at(101));
  const WalBuilder common = wal_;
  const std::string history = "1\t" + to_string(next_record(wal_)) + "\tpromoted\n";
  commit(at(110));
  commit(at(130));
  archive();
  wal_ = common;
  put_timeline_history(store_, kMomentSystem, 2, as_bytes(history), stop_);
  commit(at(111));
  commit(at(131));
  archive(0, 2);
  EXPECT_THAT(error_of([&] { finder().at_time(at(120)); }),
              HasSubstr("ambiguous: timelines 1 and 2"));
}

TEST_F(MomentTest, APromotionLosesNoMoment) {
  layer("full", at(100));
  const Lsn kept = commit(at(101));
  // The standby had all that the primary archived.
  const std::string history = "1\t" + to_string(next_record(wal_)) + "\tpromoted\n";
  archive();
  put_timeline_history(store_, kMomentSystem, 2, as_bytes(history), stop_);
  commit(at(120));
  archive(0, 2);
  EXPECT_EQ(finder().at_time(at(110)).target->record, kept);
}

}  // namespace
}  // namespace holdfast::collection
