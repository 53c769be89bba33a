#include "restore/partial_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;

Manifest manifest() {
  Manifest manifest;
  manifest.mutable_instance()->set_server_version_num(150018);
  manifest.mutable_instance()->set_catalog_version(202209061);
  manifest.mutable_instance()->set_data_directory("/old");
  auto& space = *manifest.add_tablespaces();
  space.set_oid(16400);
  space.set_location("/mnt/fast");
  std::uint32_t id = 0;
  const auto add = [&](const char* path, collection::proto::FileKind kind) {
    auto& file = *manifest.add_files();
    file.set_id(++id);
    file.set_path(path);
    file.set_mode(0640);
    file.set_size(8192);
    file.set_kind(kind);
  };
  using namespace collection::proto;
  add("PG_VERSION", FILE_KIND_PLAIN);
  add("base/1/1259", FILE_KIND_RELATION);
  add("base/1/PG_VERSION", FILE_KIND_PLAIN);
  add("base/5/1259", FILE_KIND_RELATION);
  add("base/5/20000", FILE_KIND_RELATION);
  add("base/5/20000_vm", FILE_KIND_RELATION);
  add("base/5/20001", FILE_KIND_RELATION);
  add("base/5/pg_filenode.map", FILE_KIND_PLAIN);
  add("global/1260", FILE_KIND_RELATION);
  add("global/pg_control", FILE_KIND_CONTROL);
  add("pg_tblspc/16400/PG_15_202209061/5/20002", FILE_KIND_RELATION);
  add("pg_tblspc/16400/PG_15_202209061/6/20002", FILE_KIND_RELATION);
  add("pg_twophase/00000300", FILE_KIND_PLAIN);
  add("pg_xact/0000", FILE_KIND_PLAIN);
  add("postgresql.auto.conf", FILE_KIND_PLAIN);
  add("postgresql.conf", FILE_KIND_PLAIN);
  add("server.key", FILE_KIND_PLAIN);
  add("/etc/postgresql/15/main/postgresql.conf", FILE_KIND_EXTERNAL_CONFIG);
  for (const char* path : {"base", "base/1", "base/5", "pg_xact"}) {
    manifest.add_directories()->set_path(path);
  }
  return manifest;
}

std::vector<std::string> files_of(const Layout& layout) {
  std::vector<std::string> paths;
  for (const auto& file : layout.files) paths.push_back(file.path);
  std::ranges::sort(paths);
  return paths;
}

TEST(PartialLayout, HasSharedFilesAndThoseOfTheScope) {
  const postgres::WalScope scope = {
      .databases = {{5, {.all = false, .files = {1259, 20000, 20002}}}}};
  const Layout layout = make_partial_layout(manifest(), "/w/data", "/w/spaces", scope);
  EXPECT_TRUE(layout.partial);
  EXPECT_THAT(
      files_of(layout),
      ::testing::ElementsAre("/w/data/PG_VERSION", "/w/data/base/5/1259", "/w/data/base/5/20000",
                             "/w/data/base/5/20000_vm", "/w/data/base/5/pg_filenode.map",
                             "/w/data/global/1260", "/w/data/global/pg_control",
                             "/w/data/pg_xact/0000", "/w/spaces/16400/PG_15_202209061/5/20002"));
  for (const auto& file : layout.files) EXPECT_EQ(file.mode, 0600U) << file.path;
  for (const auto& directory : layout.directories) {
    EXPECT_EQ(directory.mode, 0700U) << directory.path;
    EXPECT_NE(directory.path, "/w/data/base/1");
  }
  // Never where the live server's tablespace is.
  ASSERT_EQ(layout.tablespaces.size(), 1U);
  EXPECT_EQ(layout.tablespaces[0].location, "/w/spaces/16400");
}

TEST(PartialLayout, TakesAllButWhatIsLeftOut) {
  const postgres::WalScope scope = {.databases = {{5, {.all = true, .files = {20000}}}}};
  const auto files = files_of(make_partial_layout(manifest(), "/w/data", "/w/spaces", scope));
  EXPECT_THAT(files, ::testing::Contains("/w/data/base/5/20001"));
  EXPECT_THAT(files, ::testing::Not(::testing::Contains("/w/data/base/5/20000")));
  EXPECT_THAT(files, ::testing::Not(::testing::Contains("/w/data/base/1/1259")));
}

}  // namespace
}  // namespace holdfast::restore
