#include "postgres/scope_files.h"

#include <gtest/gtest.h>

namespace holdfast::postgres {
namespace {

const WalScope kScope = {
    .databases = {{5, {.all = true, .files = {}}}, {6, {.all = false, .files = {20000}}}}};

TEST(ScopeFiles, TakesSharedFilesAndTheScopes) {
  for (const char* path :
       {"PG_VERSION", "global/pg_control", "global/1260", "global/pg_filenode.map", "pg_xact/0000",
        "pg_multixact/offsets/0000", "base/5/1", "base/5/PG_VERSION", "base/5/pg_filenode.map",
        "base/6/20000", "base/6/20000_vm", "base/6/20000.1", "base/6/PG_VERSION",
        "pg_tblspc/9/PG_15_202209061/6/20000", "pg_tblspc/9/PG_15_202209061/5/7"}) {
    EXPECT_TRUE(file_in_scope(path, kScope)) << path;
  }
  for (const char* path :
       {"base/1/1259", "base/6/20001", "base/6/20001_fsm", "base/7/PG_VERSION", "postgresql.conf",
        "pg_hba.conf", "pg_twophase/0000", "pg_logical/replorigin_checkpoint",
        "pg_tblspc/9/PG_15_202209061/7/20000", "anything"}) {
    EXPECT_FALSE(file_in_scope(path, kScope)) << path;
  }
}

TEST(ScopeFiles, LeavesOutDirectoriesOfOtherDatabases) {
  EXPECT_TRUE(directory_in_scope("base", kScope));
  EXPECT_TRUE(directory_in_scope("base/5", kScope));
  EXPECT_TRUE(directory_in_scope("pg_tblspc/9/PG_15_202209061", kScope));
  EXPECT_TRUE(directory_in_scope("pg_wal", kScope));
  EXPECT_FALSE(directory_in_scope("base/1", kScope));
  EXPECT_FALSE(directory_in_scope("pg_tblspc/9/PG_15_202209061/7", kScope));
}

}  // namespace
}  // namespace holdfast::postgres
