#include "restore/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "restore/testing/restore_lab.h"

namespace holdfast::restore {
namespace {

using testing::RestoreLab;

std::string path_of(const Layout& layout, std::string_view end) {
  const auto found = std::ranges::find_if(
      layout.files, [&](const FileTarget& file) { return file.path.ends_with(end); });
  return found == layout.files.end() ? std::string() : found->path;
}

LayoutRequest into(const std::string& root) { return {.root = root, .final_root = root}; }

TEST(Layout, RefusesPathsThatLeadElsewhere) {
  for (const char* path : {"../evil", "/etc/passwd", "base/../../evil", "a//b", "base/./5", "",
                           "a/", "pg_tblspc/16400/other/5/1", "base/5/1000"}) {
    RestoreLab lab;
    lab.manifest().mutable_files(0)->set_path(path);
    EXPECT_THROW(make_layout(lab.manifest(), into("/r")), Error) << path;
  }
}

TEST(Layout, RefusesExternalPathsThatLeadElsewhere) {
  for (const char* path : {"etc/relative", "/etc/../../evil", "/"}) {
    RestoreLab lab;
    auto& file = *lab.manifest().mutable_files(lab.manifest().files_size() - 1);
    file.set_path(path);
    EXPECT_THROW(make_layout(lab.manifest(), into("/r")), Error) << path;
  }
}

TEST(Layout, ParentsComeBeforeWhatIsInThem) {
  RestoreLab lab;
  const Layout layout = make_layout(lab.manifest(), into("/r"));
  for (std::size_t i = 0; i < layout.directories.size(); ++i) {
    for (std::size_t j = i + 1; j < layout.directories.size(); ++j) {
      EXPECT_FALSE(layout.directories[i].path.starts_with(layout.directories[j].path + "/"));
    }
  }
  EXPECT_EQ(layout.root_mode, 0750U);
  EXPECT_EQ(layout.file_mode(), 0640U);
}

mode_t mode_of(const Layout& layout, std::string_view end) {
  const auto found = std::ranges::find_if(
      layout.files, [&](const FileTarget& file) { return file.path.ends_with(end); });
  return found == layout.files.end() ? 0 : found->mode;
}

// A manifest may come from anybody who can write to the storage.
TEST(Layout, GivesOnlyThePermissionsThatPostgresqlGives) {
  RestoreLab lab;
  for (auto& file : *lab.manifest().mutable_files()) file.set_mode(07777);
  for (auto& directory : *lab.manifest().mutable_directories()) directory.set_mode(07777);
  const Layout layout = make_layout(lab.manifest(), into("/r"));
  EXPECT_EQ(layout.root_mode, 0750U);
  for (const auto& directory : layout.directories)
    EXPECT_EQ(directory.mode, 0750U) << directory.path;
  for (const auto& file : layout.files) EXPECT_EQ(file.mode, 0640U) << file.path;
}

TEST(Layout, GivesTheGroupNothingWhereTheDataDirectoryDoesNot) {
  RestoreLab lab;
  for (auto& file : *lab.manifest().mutable_files()) file.set_mode(04644);
  for (auto& directory : *lab.manifest().mutable_directories()) {
    directory.set_mode(directory.path().empty() ? 0700 : 01777);
  }
  const Layout layout = make_layout(lab.manifest(), into("/r"));
  EXPECT_EQ(layout.root_mode, 0700U);
  for (const auto& directory : layout.directories)
    EXPECT_EQ(directory.mode, 0700U) << directory.path;
  for (const auto& file : layout.files) EXPECT_EQ(file.mode, 0600U) << file.path;
}

TEST(Layout, APrivateFileStaysPrivate) {
  RestoreLab lab;
  const std::string path = lab.manifest().files(0).path();
  lab.manifest().mutable_files(0)->set_mode(0400);
  EXPECT_EQ(mode_of(make_layout(lab.manifest(), into("/r")), path), 0600U);
}

TEST(Layout, ATablespaceInsideTheDataDirectoryMovesWithIt) {
  RestoreLab lab;
  lab.manifest().mutable_tablespaces(0)->set_location("/var/lib/postgresql/15/main/inner");
  const Layout layout = make_layout(lab.manifest(), {.root = "/staged",
                                                     .final_root = "/final",
                                                     .tablespace_mapping = {},
                                                     .tablespace_build_name = ".build"});
  ASSERT_EQ(layout.tablespaces.size(), 1U);
  EXPECT_TRUE(layout.tablespaces[0].inside);
  EXPECT_EQ(layout.tablespaces[0].location, "/final/inner");
  EXPECT_EQ(path_of(layout, "/2000"), "/staged/inner/PG_15_202209061/5/2000");
}

TEST(Layout, AnInPlaceTablespaceIsADirectoryLikeAnyOther) {
  RestoreLab lab;
  lab.manifest().mutable_tablespaces(0)->set_location("pg_tblspc/16400");
  const Layout layout = make_layout(lab.manifest(), into("/r"));
  EXPECT_TRUE(layout.tablespaces.empty());
  EXPECT_EQ(path_of(layout, "/2000"), "/r/pg_tblspc/16400/PG_15_202209061/5/2000");
}

TEST(Layout, ATablespaceThatReplayMakesIsLaidOutEmptyWhereItIsMapped) {
  RestoreLab lab;
  LayoutRequest request = into("/r");
  auto& made = request.replayed.emplace_back();
  made.set_oid(16500);
  made.set_location("/srv/made later");
  for (const std::string from : {"16500", "/srv/made later"}) {
    request.tablespace_mapping.resize(1);
    request.tablespace_mapping[0].set_from(from);
    request.tablespace_mapping[0].set_to("/new/place");
    const Layout layout = make_layout(lab.manifest(), request);
    ASSERT_EQ(layout.tablespaces.size(), 2U);
    EXPECT_EQ(layout.tablespaces[1].oid, 16500U);
    EXPECT_EQ(layout.tablespaces[1].location, "/new/place");
    EXPECT_TRUE(std::ranges::any_of(layout.directories, [](const auto& directory) {
      return directory.path == "/new/place/PG_15_202209061";
    }));
  }
  request.tablespace_mapping[0].set_from("16501");
  EXPECT_THROW(make_layout(lab.manifest(), request), Error);
}

TEST(Layout, AnOidTellsTablespacesOfOneLocationApart) {
  RestoreLab lab;
  const std::string location = lab.manifest().tablespaces(0).location();
  LayoutRequest request = into("/r");
  auto& made = request.replayed.emplace_back();
  made.set_oid(16500);
  made.set_location(location);
  for (const bool first : {true, false}) {
    request.tablespace_mapping.resize(2);
    request.tablespace_mapping[first ? 0 : 1].set_from("16500");
    request.tablespace_mapping[first ? 0 : 1].set_to("/second");
    request.tablespace_mapping[first ? 1 : 0].set_from(location);
    request.tablespace_mapping[first ? 1 : 0].set_to("/first");
    const Layout layout = make_layout(lab.manifest(), request);
    ASSERT_EQ(layout.tablespaces.size(), 2U);
    EXPECT_EQ(layout.tablespaces[0].location, "/first");
    EXPECT_EQ(layout.tablespaces[1].location, "/second");
  }
}

TEST(Layout, TwoTablespacesDoNotShareAPlace) {
  RestoreLab lab;
  auto& second = *lab.manifest().add_tablespaces();
  second.set_oid(16401);
  second.set_location("/somewhere");
  LayoutRequest request = into("/r");
  auto& mapping = request.tablespace_mapping.emplace_back();
  mapping.set_from("16401");
  mapping.set_to(lab.manifest().tablespaces(0).location());
  EXPECT_THROW(make_layout(lab.manifest(), request), Error);
}

}  // namespace
}  // namespace holdfast::restore
