#include "collection/recovery_target.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/testing/names.h"
#include "postgres/testing/segment_size.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using postgres::Lsn;
using postgres::testing::kSmallSegment;

proto::Manifest layer_of_archive() {
  proto::Manifest manifest;
  manifest.set_subdirectory(std::string(kFull));
  manifest.mutable_instance()->set_wal_segment_bytes(kSmallSegment);
  manifest.mutable_start()->set_timeline(1);
  manifest.mutable_start()->set_position(2 * kSmallSegment + 40);
  manifest.mutable_stop()->set_timeline(1);
  manifest.mutable_stop()->set_position(3 * kSmallSegment + 500);
  for (const std::uint64_t segment : {2U, 3U}) {
    auto* wal = manifest.add_wal();
    wal->set_timeline(1);
    wal->set_segment(segment);
    wal->set_stored_bytes(7);
  }
  return manifest;
}

TEST(RecoveryTargetTest, WalGoesOnFromTheLayersEndAlongThePath) {
  proto::Manifest manifest = layer_of_archive();
  // Timeline 2 begins in the segment that the layer_of_archive ends in.
  const postgres::TimelinePath path(
      2, {{.timeline = 1, .switch_point = Lsn{3 * kSmallSegment + 600}, .reason = {}}});
  extend_wal(manifest, path, Lsn{5 * kSmallSegment});
  ASSERT_EQ(manifest.wal_size(), 3);
  EXPECT_EQ(manifest.wal(0).timeline(), 1U);
  EXPECT_EQ(manifest.wal(0).stored_bytes(), 7U);
  EXPECT_EQ(manifest.wal(1).timeline(), 2U);
  EXPECT_EQ(manifest.wal(1).segment(), 3U);
  EXPECT_EQ(manifest.wal(2).segment(), 4U);
  EXPECT_EQ(manifest.wal(2).timeline(), 2U);
}

TEST(RecoveryTargetTest, IsOfANewerFormatThanLayersWithout) {
  storage::MemoryStore store;
  const Stop stop = Stop::never();
  proto::Manifest manifest = layer_of_archive();
  EXPECT_FALSE(target_of(manifest));
  const RecoveryTarget target{
      .timeline = 1, .record = Lsn{3 * kSmallSegment + 400}, .end = Lsn{3 * kSmallSegment + 500}};
  *manifest.mutable_recovery_target() = to_proto(target);
  write_manifest(store, kFull, manifest, stop);
  const auto read = read_manifest(store, kFull, stop);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->format_version(), kRecoveryTargetFormatVersion);
  EXPECT_EQ(target_of(*read)->record, target.record);
  EXPECT_EQ(target_of(*read)->end, target.end);
}

TEST(RecoveryTargetTest, ThatIsNotTheLayersEndIsRefused) {
  storage::MemoryStore store;
  const Stop stop = Stop::never();
  for (const std::uint64_t end : {3 * kSmallSegment + 400, 3 * kSmallSegment + 501}) {
    proto::Manifest manifest = layer_of_archive();
    *manifest.mutable_recovery_target() =
        to_proto({.timeline = 1, .record = Lsn{3 * kSmallSegment + 400}, .end = Lsn{end}});
    EXPECT_THROW(write_manifest(store, kFull, manifest, stop), Error);
  }
}

}  // namespace
}  // namespace holdfast::collection
