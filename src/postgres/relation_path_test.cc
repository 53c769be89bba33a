#include "postgres/relation_path.h"

#include <gtest/gtest.h>

namespace holdfast::postgres {
namespace {

constexpr std::string_view kVersion = "PG_15_202209061";

TEST(RelationPath, ReadsAndPrintsEveryForm) {
  const struct {
    std::string_view path;
    RelationPath parsed;
  } cases[] = {
      {"base/5/16384", {{1663, 5, 16384}, Fork::Main, 0, false, 0}},
      {"base/5/16384_vm.3", {{1663, 5, 16384}, Fork::VisibilityMap, 3, false, 0}},
      {"base/5/16384_fsm", {{1663, 5, 16384}, Fork::FreeSpaceMap, 0, false, 0}},
      {"base/5/16384_init", {{1663, 5, 16384}, Fork::Init, 0, false, 0}},
      {"base/4294967295/4294967295.12", {{1663, 4294967295, 4294967295}, Fork::Main, 12, false, 0}},
      {"global/1260", {{1664, 0, 1260}, Fork::Main, 0, false, 0}},
      {"pg_tblspc/16400/PG_15_202209061/5/16385", {{16400, 5, 16385}, Fork::Main, 0, false, 0}},
      {"base/5/t3_16384", {{1663, 5, 16384}, Fork::Main, 0, true, 3}},
      {"base/5/t3_16384_fsm.1", {{1663, 5, 16384}, Fork::FreeSpaceMap, 1, true, 3}},
  };
  for (const auto& one : cases) {
    EXPECT_EQ(parse_relation_path(one.path), one.parsed) << one.path;
    EXPECT_EQ(print_relation_path(one.parsed, kVersion), one.path);
  }
}

TEST(RelationPath, IsAbsentForOtherFiles) {
  for (const auto* path : {"",
                           "base",
                           "base/5",
                           "base/5/pg_filenode.map",
                           "base/5/PG_VERSION",
                           "base/5/16384.0",
                           "base/5/16384.",
                           "base/5/16384_",
                           "base/5/16384_foo",
                           "base/5/016384",
                           "base/5/0",
                           "base/5/16384.01",
                           "base/x/16384",
                           "base/5/99999999999",
                           "global/pg_control",
                           "global/5/1260",
                           "pg_xact/0000",
                           "pg_tblspc/16400/5/16385",
                           "base/5/pgsql_tmp/1",
                           "base/5/t_16384",
                           "base/5/16384.1.2",
                           "pg_tblspc/x/PG_15_1/5/16385"}) {
    EXPECT_FALSE(parse_relation_path(path)) << path;
  }
}

TEST(BackupRule, KeepsTheDirectoriesThatAServerNeedsEmpty) {
  for (const auto* path : {"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial",
                           "pg_snapshots", "pg_stat_tmp", "pg_subtrans"}) {
    EXPECT_EQ(backup_rule(path, true), BackupRule::KeepEmpty) << path;
    EXPECT_EQ(backup_rule(std::string(path) + "/x", false), BackupRule::Skip) << path;
  }
}

TEST(BackupRule, SkipsWhatMustNotTravel) {
  for (const auto* path :
       {"postmaster.pid", "postmaster.opts", "backup_label", "tablespace_map", "backup_label.old",
        "postgresql.auto.conf.tmp", "backup_manifest", "current_logfiles.tmp", "standby.signal",
        "recovery.signal", "base/5/pg_internal.init", "global/pg_internal.init.123",
        "base/5/t3_16384", "base/pgsql_tmp/pgsql_tmp1.0"}) {
    EXPECT_EQ(backup_rule(path, false), BackupRule::Skip) << path;
  }
  EXPECT_EQ(backup_rule("base/pgsql_tmp", true), BackupRule::Skip);
  EXPECT_EQ(backup_rule(".holdfast-before-restore-20261120-223000", true), BackupRule::Skip);
  EXPECT_EQ(backup_rule("holdfast_external_config", true), BackupRule::Skip);
  EXPECT_EQ(backup_rule("holdfast_external_config/etc/x", false), BackupRule::Skip);
}

TEST(BackupRule, TakesTheRest) {
  for (const auto* path : {"global/pg_control", "base/5/16384", "base/5/postmaster.pid",
                           "pg_xact/0000", "PG_VERSION", "postgresql.conf", "pg_stat/pgstat.stat",
                           "pg_multixact/offsets/0000", "pg_logical/replorigin_checkpoint"}) {
    EXPECT_EQ(backup_rule(path, false), BackupRule::Take) << path;
  }
  for (const auto* path : {"base", "base/5", "pg_tblspc", "pg_tblspc/16400", "global"}) {
    EXPECT_EQ(backup_rule(path, true), BackupRule::Take) << path;
  }
}

TEST(UnloggedRelations, LeavesOutAllButTheInitFork) {
  UnloggedRelations unlogged;
  for (const auto* name : {"16384", "16384_init", "16385", "16384.1", "PG_VERSION"}) {
    unlogged.add(name);
  }
  for (const auto* name : {"16384", "16384.1", "16384_fsm", "16384_vm"}) {
    EXPECT_TRUE(unlogged.leaves_out(name)) << name;
  }
  for (const auto* name : {"16384_init", "16385", "t3_16384", "PG_VERSION"}) {
    EXPECT_FALSE(unlogged.leaves_out(name)) << name;
  }
}

}  // namespace
}  // namespace holdfast::postgres
