#include "restore/swap.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/error.h"
#include "restore/marker.h"

namespace holdfast::restore {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Swap : public ::testing::Test {
 protected:
  Swap() {
    std::string pattern = "/tmp/holdfast-swap-XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  ~Swap() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + "/" + path).parent_path());
    std::ofstream(root_ + "/" + path) << path;
  }
  std::vector<std::string> names(const std::string& directory) const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      found.push_back(entry.path().filename());
    }
    std::ranges::sort(found);
    return found;
  }
  /// As for a mount point: entries are moved.
  proto::RestoreMove contents_move() const {
    proto::RestoreMove move;
    move.set_live(root_ + "/live");
    move.set_staged(root_ + "/live/.holdfast-restore-1");
    move.set_aside(root_ + "/live/.holdfast-before-restore-now");
    move.set_failed(root_ + "/live/.holdfast-failed-restore-now");
    move.set_contents(true);
    return move;
  }

  std::string root_;
  io::FileSystem& files_ = io::FileSystem::real();
};

TEST_F(Swap, RenamesADirectoryBesideItself) {
  write("live/old");
  const auto move = plan_data_directory_move(
      {.live = root_ + "/live", .staging_suffix = "holdfast-restore-1", .time = "now"});
  EXPECT_FALSE(move.contents());
  EXPECT_EQ(move.staged(), root_ + "/live.holdfast-restore-1");
  EXPECT_EQ(move.aside(), root_ + "/live.before-restore-now");
  write("live.holdfast-restore-1/new");
  for (int repeat = 0; repeat < 2; ++repeat) {
    move_aside(files_, move);
    EXPECT_FALSE(path_exists(move.live()));
  }
  for (int repeat = 0; repeat < 2; ++repeat) {
    move_in(files_, move);
    EXPECT_THAT(names(move.live()), ElementsAre("new"));
  }
  // A repetition after the new directory came in must not take it for an old one.
  move_aside(files_, move);
  EXPECT_THAT(names(move.live()), ElementsAre("new"));
  for (int repeat = 0; repeat < 2; ++repeat) {
    take_out(files_, move, move.staged());
    EXPECT_THAT(names(move.staged()), ElementsAre("new"));
  }
  for (int repeat = 0; repeat < 2; ++repeat) {
    put_back(files_, move);
    EXPECT_THAT(names(move.live()), ElementsAre("old"));
  }
}

TEST_F(Swap, NeverReplacesWhatCameInTheMeantime) {
  const auto move = plan_data_directory_move(
      {.live = root_ + "/live", .staging_suffix = "holdfast-restore-1", .time = "now"});
  write("live.holdfast-restore-1/new");
  std::filesystem::create_directory(root_ + "/live");
  EXPECT_THROW(move_in(files_, move), Error);
  EXPECT_TRUE(path_exists(move.staged()));
}

TEST_F(Swap, MovesTheEntriesOfAMountPoint) {
  write("live/old");
  write("live/global/pg_control");
  write("live/lost+found/keep");
  write("live/.holdfast-restore-1/new");
  write("live/.holdfast-restore-1/global/pg_control");
  write("live/.holdfast-restore-1/.holdfast-restore");
  ::chmod((root_ + "/live").c_str(), 0755);
  ::chmod((root_ + "/live/.holdfast-restore-1").c_str(), 0700);
  const auto move = contents_move();
  for (int repeat = 0; repeat < 2; ++repeat) move_aside(files_, move);
  EXPECT_THAT(names(move.aside()), ElementsAre("global", "old"));
  for (int repeat = 0; repeat < 2; ++repeat) move_in(files_, move);
  EXPECT_THAT(names(move.live()), ElementsAre(".holdfast-before-restore-now", ".holdfast-restore-1",
                                              "global", "lost+found", "new"));
  struct stat status {};
  ASSERT_EQ(::stat(move.live().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
  for (int repeat = 0; repeat < 2; ++repeat) take_out(files_, move, move.failed());
  EXPECT_THAT(names(move.failed()), ElementsAre("global", "new"));
  for (int repeat = 0; repeat < 2; ++repeat) put_back(files_, move);
  EXPECT_THAT(names(move.live()), ElementsAre(".holdfast-failed-restore-now", ".holdfast-restore-1",
                                              "global", "lost+found", "old"));
}

TEST_F(Swap, FollowsTheLinksOfADataDirectory) {
  std::filesystem::create_directory_symlink("b", root_ + "/a");
  std::filesystem::create_directory_symlink(root_ + "/c", root_ + "/b");
  EXPECT_EQ(follow_links(root_ + "/a"), root_ + "/c");
  std::filesystem::create_directory_symlink("loop", root_ + "/loop");
  EXPECT_THROW(follow_links(root_ + "/loop"), Error);
}

TEST_F(Swap, AnEmptyDirectoryIsFree) {
  EXPECT_TRUE(is_absent_or_empty(root_ + "/absent"));
  EXPECT_TRUE(is_absent_or_empty(root_));
  std::filesystem::create_directory(root_ + "/lost+found");
  EXPECT_TRUE(is_absent_or_empty(root_));
  write(".holdfast-restore.x.tmp");
  EXPECT_TRUE(is_absent_or_empty(root_));
  remove_unfinished_markers(files_, root_);
  EXPECT_THAT(names(root_), ElementsAre("lost+found"));
  write("file");
  EXPECT_FALSE(is_absent_or_empty(root_));
}

TEST_F(Swap, KnowsWhoseMarkADirectoryCarries) {
  EXPECT_EQ(marker_owner(files_, root_, 1), Owner::Nobody);
  write_marker(files_, root_, 1);
  EXPECT_EQ(marker_owner(files_, root_, 1), Owner::ThisJob);
  EXPECT_EQ(marker_owner(files_, root_, 2), Owner::OtherJob);
  EXPECT_EQ(marker_job(files_, root_), 1);
  remove_marker(files_, root_, 2);
  EXPECT_EQ(marker_job(files_, root_), 1);
  remove_marker(files_, root_, 1);
  EXPECT_THAT(names(root_), IsEmpty());
  EXPECT_FALSE(marker_job(files_, root_));
  for (const char* content : {"", "restore job ", "restore job x\n", "restore job 1 and more\n"}) {
    std::ofstream(fmt::format("{}/{}", root_, kMarkerName)) << content;
    EXPECT_FALSE(marker_job(files_, root_)) << content;
    EXPECT_EQ(marker_owner(files_, root_, 1), Owner::OtherJob) << content;
  }
}

}  // namespace
}  // namespace holdfast::restore
