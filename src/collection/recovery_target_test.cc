#include "collection/recovery_target.h"

#include <gtest/gtest.h>

#include <functional>

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

proto::Manifest layer_with_history(const proto::Manifest& base) {
  proto::Manifest manifest = base;
  manifest.set_backup_uuid(std::string(16, 'b'));
  manifest.set_wal_directory("holder/wal/x");
  manifest.mutable_base()->set_backup_uuid(base.backup_uuid());
  *manifest.mutable_base()->mutable_start() = base.start();
  *manifest.mutable_base()->mutable_stop() = base.stop();
  manifest.mutable_stop()->set_position(9 * kSmallSegment);
  manifest.clear_wal();
  for (std::uint64_t segment = 2; segment < 9; ++segment) {
    auto& wal = segment < 8 ? *manifest.mutable_history()->add_wal() : *manifest.add_wal();
    wal.set_timeline(1);
    wal.set_segment(segment);
  }
  return manifest;
}

TEST(RecoveryTargetTest, AHistoryTakesThePlaceOfTheLayersWal) {
  proto::Manifest base = layer_of_archive();
  base.set_backup_uuid(std::string(16, 'a'));
  auto& tables = *base.add_scope_databases();
  tables.set_oid(5);
  tables.add_tables()->set_oid(100);
  for (const std::uint32_t oid : {100U, 101U}) tables.add_relations(oid);
  tables.add_blank_files(2619);
  tables.add_files(100);
  proto::Manifest holder = layer_with_history(base);
  auto& later = *holder.mutable_scope_databases(0);
  later.add_relations(102);
  later.set_blank_files(0, 300);
  auto& files = *holder.mutable_history()->add_files();
  files.set_database(5);
  for (const std::uint32_t file : {100U, 200U}) files.add_files(file);

  take_history(base, holder, Lsn{5 * kSmallSegment + 8});
  EXPECT_EQ(base.wal_directory(), "holder/wal/x");
  ASSERT_EQ(base.wal_size(), 4);
  EXPECT_EQ(base.wal(0).segment(), 2U);
  EXPECT_EQ(base.wal(3).segment(), 5U);
  EXPECT_EQ(base.scope_databases(0).relations_size(), 2);
  EXPECT_EQ(base.scope_databases(0).later_relations_size(), 3);
  EXPECT_EQ(base.scope_databases(0).blank_files_size(), 2);
  ASSERT_EQ(base.scope_databases(0).files_size(), 2);
  EXPECT_EQ(base.scope_databases(0).files(1), 200U);
}

TEST(RecoveryTargetTest, AHistoryMustLeadFromTheLayerToTheEnd) {
  const proto::Manifest base = layer_of_archive();
  const auto refused = [&](const std::function<void(proto::Manifest&)>& change, std::uint64_t end) {
    proto::Manifest layer = base;
    proto::Manifest holder = layer_with_history(base);
    change(holder);
    try {
      take_history(layer, holder, Lsn{end});
    } catch (const Error& error) {
      return error.state() == sqlstate::kDataCorrupted;
    }
    return false;
  };
  EXPECT_FALSE(refused([](auto&) {}, 9 * kSmallSegment));
  EXPECT_TRUE(refused([](auto&) {}, 9 * kSmallSegment + 8));
  EXPECT_TRUE(refused([](auto& one) { one.clear_history(); }, 5 * kSmallSegment));
  EXPECT_TRUE(
      refused([](auto& one) { one.mutable_base()->set_backup_uuid("other"); }, 5 * kSmallSegment));
  EXPECT_TRUE(refused([](auto& one) { one.mutable_base()->mutable_start()->set_position(8); },
                      5 * kSmallSegment));
}

}  // namespace
}  // namespace holdfast::collection
