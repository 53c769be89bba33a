#include "collection/scope.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/manifest_internal.h"
#include "collection/wal_archive.h"

namespace holdfast::collection {
namespace {

using proto::Manifest;
using proto::ScopeDatabase;

ScopeDatabase database(std::uint32_t oid, std::initializer_list<std::uint32_t> tables = {}) {
  ScopeDatabase scope;
  scope.set_oid(oid);
  scope.set_name("d" + std::to_string(oid));
  for (const auto table : tables) {
    auto& added = *scope.add_tables();
    added.set_oid(table);
    added.set_schema("public");
    added.set_name("t" + std::to_string(table));
  }
  return scope;
}

Manifest layer(proto::Scope scope, std::initializer_list<ScopeDatabase> databases) {
  Manifest manifest;
  manifest.set_scope(scope);
  manifest.set_subdirectory("2026/11/20-223000.00");
  for (const auto& one : databases) *manifest.add_scope_databases() = one;
  return manifest;
}

std::string refusal(const Manifest& base, std::initializer_list<ScopeDatabase> databases) {
  try {
    require_scope_in(base, layer(proto::SCOPE_DATABASES, databases).scope_databases());
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kInvalidParameterValue);
    return error.message();
  }
  return {};
}

TEST(Scope, ALayerHasNothingThatItsChainLacks) {
  const Manifest cluster = layer(proto::SCOPE_CLUSTER, {});
  const Manifest databases = layer(proto::SCOPE_DATABASES, {database(5), database(6)});
  const Manifest tables = layer(proto::SCOPE_TABLES, {database(5, {1, 2}), database(6)});
  EXPECT_EQ(refusal(cluster, {}), "");
  EXPECT_EQ(refusal(cluster, {database(5)}),
            "cannot append a backup of specific tables or databases to a cluster backup");
  EXPECT_EQ(refusal(databases, {}),
            "cannot append a cluster backup to a backup of specific tables or databases");
  EXPECT_EQ(refusal(databases, {database(5), database(6)}), "");
  EXPECT_EQ(refusal(databases, {database(7)}),
            "previous backup does not contain the complete database \"d7\"");
  EXPECT_EQ(refusal(databases, {database(5, {1})}),
            "previous backup contains the complete database \"d5\"");
  EXPECT_EQ(refusal(tables, {database(5, {2, 1}), database(6)}), "");
  EXPECT_EQ(refusal(tables, {database(5)}),
            "previous backup does not contain the complete database \"d5\"");
  EXPECT_EQ(refusal(tables, {database(5, {1, 3})}),
            "previous backup does not contain table \"d5.public.t3\"");
  EXPECT_EQ(refusal(tables, {database(8, {1})}),
            "previous backup does not contain table \"d8.public.t1\"");
}

TEST(Scope, KnowsWholeDatabases) {
  const Manifest tables = layer(proto::SCOPE_TABLES, {database(5, {1, 2}), database(6)});
  EXPECT_TRUE(is_scoped(tables));
  EXPECT_FALSE(is_scoped(layer(proto::SCOPE_CLUSTER, {})));
  EXPECT_TRUE(holds_tables_only(tables, "d5"));
  EXPECT_FALSE(holds_tables_only(tables, "d6"));
  EXPECT_FALSE(holds_tables_only(tables, "d7"));
  EXPECT_EQ(find_scope(tables, 6U)->name(), "d6");
  EXPECT_EQ(find_scope(tables, 7U), nullptr);
}

TEST(Scope, OlderBuildsRefuseSuchManifests) {
  Manifest manifest = layer(proto::SCOPE_DATABASES, {database(5)});
  manifest.set_wal_directory("2026/11/20-223000.00/wal/1a2b");
  const Manifest read = decode_manifest(encode_manifest(manifest, "m"), "m");
  EXPECT_EQ(read.format_version(), kScopedFormatVersion);
  EXPECT_EQ(read.wal_directory(), manifest.wal_directory());
}

TEST(Scope, WalIsInTheLayersOwnDirectory) {
  Manifest manifest = layer(proto::SCOPE_DATABASES, {database(5)});
  for (const char* elsewhere :
       {"wal/7", "2026/11/20-223000.00/wal/../../x", "/2026", "2026/11/20-223000.00"}) {
    manifest.set_wal_directory(elsewhere);
    EXPECT_THROW(encode_manifest(manifest, "m"), Error) << elsewhere;
  }
  manifest.set_wal_directory("2026/11/20-223000.00/wal/1a2b");
  manifest.mutable_instance()->set_system_identifier(7);
  manifest.mutable_instance()->set_wal_segment_bytes(16U << 20);
  proto::WalSegment segment;
  segment.set_timeline(1);
  segment.set_segment(3);
  EXPECT_EQ(wal_segment_key(wal_segment_of(manifest, segment)),
            "2026/11/20-223000.00/wal/1a2b/wal/7/00000001/000000010000000000000003.wal");
  manifest.clear_wal_directory();
  EXPECT_EQ(wal_segment_key(wal_segment_of(manifest, segment)),
            "wal/7/00000001/000000010000000000000003.wal");
}

TEST(Scope, ManifestsSayWhichDatabases) {
  EXPECT_THROW(encode_manifest(layer(proto::SCOPE_TABLES, {}), "m"), Error);
}

TEST(Scope, AHistoryLeadsFromTheLayerBefore) {
  Manifest manifest = layer(proto::SCOPE_DATABASES, {database(5)});
  manifest.set_type(proto::BACKUP_TYPE_INCREMENTAL);
  manifest.set_full("2026/11/20-223000.00");
  manifest.set_wal_directory("2026/11/20-223000.00/wal/1a2b");
  manifest.mutable_base()->set_directory("2026/11/20-223000.00");
  manifest.mutable_base()->set_backup_uuid(std::string(16, 'u'));
  for (auto* lsn : {manifest.mutable_base()->mutable_start(),
                    manifest.mutable_base()->mutable_stop(), manifest.mutable_stop()}) {
    lsn->set_timeline(2);
    lsn->set_position(1000);
  }
  manifest.mutable_instance()->set_wal_segment_bytes(16U << 20);
  manifest.mutable_history();
  EXPECT_TRUE(decode_manifest(encode_manifest(manifest, "m"), "m").has_history());
  const auto wrong = [&](const std::function<void(Manifest&)>& change) {
    Manifest changed = manifest;
    change(changed);
    EXPECT_THROW(encode_manifest(changed, "m"), Error);
  };
  wrong([](Manifest& one) { one.clear_wal_directory(); });
  wrong([](Manifest& one) { one.clear_instance(); });
  wrong([](Manifest& one) { one.mutable_base()->mutable_start()->set_timeline(1); });
  wrong([](Manifest& one) { one.mutable_base()->mutable_start()->set_position(0); });
  wrong([](Manifest& one) { one.mutable_base()->mutable_start()->set_position(1008); });
  wrong([](Manifest& one) { one.mutable_stop()->set_position(992); });
  wrong([](Manifest& one) {
    one.set_scope(proto::SCOPE_CLUSTER);
    one.clear_scope_databases();
  });
}

}  // namespace
}  // namespace holdfast::collection
