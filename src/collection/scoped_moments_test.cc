#include "collection/scoped_moments.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "collection/moment.h"
#include "collection/wal_archive.h"
#include "postgres/testing/segment_size.h"
#include "postgres/testing/wal_builder.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using postgres::Lsn;
using postgres::testing::kSmallSegment;
using postgres::testing::WalBuilder;

constexpr std::uint64_t kChainSystem = 0;  // which WalBuilder writes
constexpr int kChainMajor = 15;
constexpr std::int64_t kEpochSeconds = 946'684'800;

Time at_second(std::int64_t seconds) { return time_from_us(seconds * 1'000'000); }

/// A chain of a database: layers, commits between them, and the WAL that each layer has.
class ScopedMomentsTest : public ::testing::Test {
 protected:
  Lsn commit(std::int64_t seconds) {
    Bytes data(8);
    store<std::int64_t>(data, 0, (seconds - kEpochSeconds) * 1'000'000);
    return wal_.add({.resource_manager = 1, .info = 0x00, .main_data = data});
  }
  Lsn restore_point(const std::string& name) {
    Bytes data(8 + 64);
    std::ranges::copy(as_bytes(name), data.begin() + 8);
    return wal_.add({.resource_manager = 0, .info = 0x70, .main_data = data});
  }
  /// About so many bytes of WAL that commit nothing.
  void fill(std::size_t bytes) {
    for (std::size_t done = 0; done < bytes; done += 30000) {
      wal_.add({.resource_manager = 10, .info = 0x00, .main_data = Bytes(30000)});
    }
  }
  /// A layer that begins and ends here, with a commit; on the layer `base`, by its number.
  void layer(std::int64_t end, std::optional<std::size_t> base = std::nullopt) {
    proto::Manifest manifest;
    manifest.set_scope(proto::SCOPE_DATABASES);
    manifest.set_subdirectory("layer" + std::to_string(layers_.size()));
    manifest.set_backup_uuid(std::string(16, static_cast<char>('a' + layers_.size())));
    manifest.mutable_start()->set_timeline(1);
    manifest.mutable_start()->set_position(wal_.add({.resource_manager = 0, .info = 0x10}).value);
    commit(end);
    wal_.add({.resource_manager = 0, .info = 0x50});
    manifest.set_end_time_us(end * 1'000'000);
    manifest.mutable_stop()->set_timeline(1);
    manifest.mutable_stop()->set_position((wal_.position().value + 7) / 8 * 8);
    auto& instance = *manifest.mutable_instance();
    instance.set_system_identifier(kChainSystem);
    instance.set_wal_segment_bytes(kSmallSegment);
    instance.set_server_version_num(kChainMajor * 10000);
    wal_.add({.resource_manager = 0, .info = 0x20});
    if (base) {
      const proto::Manifest& before = layers_.at(*base);
      manifest.mutable_base()->set_backup_uuid(before.backup_uuid());
      *manifest.mutable_base()->mutable_start() = before.start();
      *manifest.mutable_base()->mutable_stop() = before.stop();
      manifest.mutable_history();
      manifest.set_wal_directory(manifest.subdirectory() + "/wal/x");
      put_wal(manifest.wal_directory());
    }
    layers_.push_back(std::move(manifest));
  }
  void put_wal(const std::string& directory) {
    const Bytes all = wal_.whole_segments();
    for (std::uint64_t i = 0; i < all.size() / kSmallSegment; ++i) {
      const WalSegmentId id{kChainSystem, 1, kStart / kSmallSegment + i, kSmallSegment, directory};
      const auto read = [&](std::uint64_t offset, MutableByteView into) {
        std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(i * kSmallSegment + offset),
                    into.size(), into.begin());
      };
      put_wal_segment(store_, id, read, Compression{}, stop_);
    }
  }

  static constexpr std::uint64_t kStart = 16 * kSmallSegment;
  WalBuilder wal_{kChainMajor, Lsn{kStart}, kSmallSegment};
  storage::MemoryStore store_;
  std::vector<proto::Manifest> layers_;
  const Stop stop_ = Stop::never();
};

TEST_F(ScopedMomentsTest, FindsEveryMomentBetweenTwoLayers) {
  layer(100);
  const Lsn first = commit(110);
  fill(2 * kSmallSegment);
  const Lsn second = commit(120);
  layer(130, 0);
  const MomentFinder finder(store_, layers_, stop_);
  EXPECT_EQ(finder.at_time(at_second(105)).layer, "layer0");
  EXPECT_FALSE(finder.at_time(at_second(105)).target);
  const Moment middle = finder.at_time(at_second(115));
  EXPECT_EQ(middle.layer, "layer0");
  ASSERT_TRUE(middle.target);
  EXPECT_EQ(middle.target->record, first);
  EXPECT_EQ(middle.target->wal_layer, "layer1");
  EXPECT_EQ(middle.target->timeline, 1U);
  EXPECT_EQ(finder.at_time(at_second(120)).target->record, second);
  EXPECT_EQ(finder.at_time(at_second(129)).target->record, second);
  EXPECT_EQ(finder.at_time(at_second(130)).layer, "layer1");
  EXPECT_FALSE(finder.at_time(at_second(130)).target);
  EXPECT_THROW(finder.at_time(at_second(99)), Error);
  EXPECT_THROW(finder.at_time(at_second(131)), Error);
  EXPECT_EQ(finder.last_commit_before(middle), at_second(110));
}

TEST_F(ScopedMomentsTest, FindsPositionsAndRestorePoints) {
  layer(100);
  commit(110);
  const Lsn point = restore_point("half");
  fill(kSmallSegment);
  commit(120);
  layer(130, 0);
  const MomentFinder finder(store_, layers_, stop_);
  const Moment half = finder.at_restore_point("half");
  EXPECT_EQ(half.layer, "layer0");
  EXPECT_EQ(half.target->record, point);
  EXPECT_EQ(half.target->wal_layer, "layer1");
  EXPECT_THROW(finder.at_restore_point("other"), Error);
  EXPECT_EQ(finder.at_lsn(half.target->end).target->record, point);
  EXPECT_EQ(finder.at_lsn(Lsn{layers_[1].stop().position()}).layer, "layer1");
  EXPECT_THROW(finder.at_lsn(Lsn{layers_[0].stop().position() - 8}), Error);
  EXPECT_THROW(finder.at_lsn(Lsn{layers_[1].stop().position() + 8}), Error);
  EXPECT_EQ(finder.behind(1, half.target->end).target->record, point);
  EXPECT_THROW(finder.behind(2, half.target->end), Error);
}

TEST_F(ScopedMomentsTest, WindowsEndAtGaps) {
  layer(100);
  commit(110);
  layer(120, 0);
  commit(130);
  layer(140);  // the WAL in between was lost
  commit(150);
  layer(160, 2);
  const MomentFinder finder(store_, layers_, stop_);
  const auto windows = finder.windows();
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_EQ(windows[0].begin, at_second(100));
  EXPECT_EQ(windows[0].end, at_second(120));
  EXPECT_EQ(windows[0].end_lsn, Lsn{layers_[1].stop().position()});
  EXPECT_EQ(windows[1].begin, at_second(140));
  EXPECT_EQ(windows[1].end, at_second(160));
  EXPECT_EQ(finder.at_time(at_second(155)).layer, "layer2");
  try {
    finder.at_time(at_second(130));
    FAIL() << "a moment in the gap was found";
  } catch (const Error& error) {
    EXPECT_NE(error.detail().find(to_string(windows[0])), std::string::npos);
    EXPECT_NE(error.detail().find(to_string(windows[1])), std::string::npos);
  }
}

TEST_F(ScopedMomentsTest, TwoLayersMayContinueOne) {
  // One that was interrupted, and resumed after the next one was taken.
  layer(100);
  commit(110);
  layer(120, 0);
  commit(130);
  layer(140, 0);
  const MomentFinder finder(store_, layers_, stop_);
  ASSERT_EQ(finder.windows().size(), 1U);
  EXPECT_EQ(finder.windows()[0].end, at_second(140));
  EXPECT_EQ(finder.at_time(at_second(135)).layer, "layer0");
  EXPECT_EQ(finder.at_time(at_second(135)).target->wal_layer, "layer2");
}

TEST_F(ScopedMomentsTest, LayersWithoutHistoryAreTheirEnds) {
  layer(100);
  commit(110);
  layer(120);
  const MomentFinder finder(store_, layers_, stop_);
  ASSERT_EQ(finder.windows().size(), 2U);
  EXPECT_EQ(finder.windows()[1].begin, finder.windows()[1].end);
  try {
    finder.at_time(at_second(110));
    FAIL() << "a moment without WAL was found";
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("nearest BACKUP times"), std::string::npos) << error.message();
  }
}

}  // namespace
}  // namespace holdfast::collection
