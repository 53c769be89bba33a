#include "io/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/error.h"
#include "io/fault_file_system.h"

namespace holdfast::io {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

class FileTest : public ::testing::Test {
 protected:
  FileTest() {
    std::string pattern = testing::TempDir() + "/holdfast-io-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
  }
  ~FileTest() override { std::filesystem::remove_all(directory_); }

  std::string at(const std::string& name) const { return directory_ + "/" + name; }
  std::string content(const std::string& name) const {
    const auto bytes = read_whole(FileSystem::real(), at(name), 1 << 20);
    return bytes ? std::string(as_text(*bytes)) : "(absent)";
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    walk(directory_, [&](const WalkedEntry& entry) {
      found.push_back(entry.path);
      return true;
    });
    return found;
  }

  std::string directory_;
  FaultFileSystem faults_;
};

TEST_F(FileTest, AtomicWriteReplacesTheContent) {
  write_file_atomically(faults_, at("f"), as_bytes("one"));
  write_file_atomically(faults_, at("f"), as_bytes("two"));
  EXPECT_EQ(content("f"), "two");
  EXPECT_THAT(names(), UnorderedElementsAre("f"));
}

TEST_F(FileTest, AtomicWriteSurvivesPowerFailureOnceItReturned) {
  write_file_atomically(faults_, at("f"), as_bytes("one"));
  write_file_atomically(faults_, at("f"), as_bytes("two"));
  faults_.lose_unsynced();
  EXPECT_EQ(content("f"), "two");
}

TEST_F(FileTest, AtomicWriteLeavesTheOldContentWhenAnyCallFails) {
  write_file_atomically(FileSystem::real(), at("f"), as_bytes("old"));
  for (const FileCall call : {FileCall::Open, FileCall::Write, FileCall::Sync, FileCall::Rename}) {
    FaultFileSystem faults;
    faults.add({.call = call, .nth = 1, .times = 1, .error_number = ENOSPC, .short_bytes = 0});
    try {
      write_file_atomically(faults, at("f"), as_bytes("new"));
      ADD_FAILURE() << "call " << static_cast<int>(call) << " did not fail";
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kDiskFull);
      EXPECT_THAT(error.message(), HasSubstr(at("f")));
    }
    EXPECT_EQ(content("f"), "old");
    EXPECT_THAT(names(), UnorderedElementsAre("f"));
  }
}

TEST_F(FileTest, AtomicWriteIsUndoneByPowerFailureWhenTheDirectoryWasNotSynced) {
  write_file_atomically(FileSystem::real(), at("f"), as_bytes("old"));
  // The first fsync is the file's, the second the directory's.
  faults_.add(
      {.call = FileCall::Sync, .nth = 2, .times = 1, .error_number = EIO, .short_bytes = 0});
  EXPECT_THROW(write_file_atomically(faults_, at("f"), as_bytes("new")), Error);
  faults_.lose_unsynced();
  EXPECT_EQ(content("f"), "old");
}

TEST_F(FileTest, LosesWhatWasWrittenButNotSynced) {
  {
    const UniqueFd fd = open_file(faults_, at("f"), O_WRONLY | O_CREAT | O_EXCL);
    write_all(faults_, fd.get(), as_bytes("kept"), "f");
    sync_file(faults_, fd.get(), "f");
    sync_directory(faults_, directory_);
    write_all(faults_, fd.get(), as_bytes(" lost"), "f");
    pwrite_all(faults_, fd.get(), as_bytes("X"), 0, "f");
  }
  EXPECT_EQ(content("f"), "Xept lost");
  faults_.lose_unsynced();
  EXPECT_EQ(content("f"), "kept");
}

TEST_F(FileTest, ShortWritesAreGoneOnWith) {
  faults_.add({.call = FileCall::Write, .nth = 1, .times = 3, .error_number = 0, .short_bytes = 2});
  const UniqueFd fd = open_file(faults_, at("f"), O_WRONLY | O_CREAT);
  write_all(faults_, fd.get(), as_bytes("abcdefgh"), "f");
  EXPECT_EQ(content("f"), "abcdefgh");
  EXPECT_EQ(faults_.calls(FileCall::Write), 4U);
}

TEST_F(FileTest, InterruptedReadsAreRepeated) {
  write_file_atomically(FileSystem::real(), at("f"), as_bytes("abc"));
  faults_.add(
      {.call = FileCall::Read, .nth = 1, .times = 2, .error_number = EINTR, .short_bytes = 0});
  EXPECT_EQ(as_text(*read_whole(faults_, at("f"), 10)), "abc");
}

TEST_F(FileTest, ReadWholeRefusesMoreThanItsLimit) {
  write_file_atomically(FileSystem::real(), at("f"), as_bytes("abcdef"));
  EXPECT_EQ(read_whole(faults_, at("f"), 6)->size(), 6U);
  EXPECT_THROW(read_whole(faults_, at("f"), 5), Error);
  EXPECT_FALSE(read_whole(faults_, at("missing"), 5));
}

TEST_F(FileTest, MakesParentsDurably) {
  make_directories(faults_, at("a/b/c"));
  faults_.lose_unsynced();
  EXPECT_TRUE(std::filesystem::is_directory(at("a/b/c")));
}

TEST_F(FileTest, RemovesATreeWithoutFollowingLinks) {
  make_directories(faults_, at("tree/below"));
  write_file_atomically(faults_, at("tree/below/f"), as_bytes("x"));
  write_file_atomically(faults_, at("outside"), as_bytes("y"));
  ASSERT_EQ(::symlink(at("outside").c_str(), at("tree/link").c_str()), 0);
  remove_tree(faults_, at("tree"));
  remove_tree(faults_, at("tree"));
  EXPECT_THAT(names(), UnorderedElementsAre("outside"));
}

TEST_F(FileTest, WalkDoesNotEnterWhatTheVisitorDeclines) {
  make_directories(faults_, at("a/b"));
  make_directories(faults_, at("skipped/c"));
  std::vector<std::string> found;
  walk(directory_, [&](const WalkedEntry& entry) {
    found.push_back(entry.path);
    return entry.path != "skipped";
  });
  EXPECT_THAT(found, UnorderedElementsAre("a", "a/b", "skipped"));
}

TEST_F(FileTest, OpenBeneathNeverLeavesTheDirectory) {
  make_directories(faults_, at("inside"));
  write_file_atomically(faults_, at("secret"), as_bytes("s"));
  write_file_atomically(faults_, at("inside/f"), as_bytes("f"));
  ASSERT_EQ(::symlink("../secret", at("inside/link").c_str()), 0);
  ASSERT_EQ(::symlink("..", at("inside/up").c_str()), 0);
  const UniqueFd inside = open_file(faults_, at("inside"), O_RDONLY | O_DIRECTORY);
  const auto opens = [&](const char* path) {
    return static_cast<bool>(UniqueFd(faults_.open_beneath(inside.get(), path, O_RDONLY, 0)));
  };
  EXPECT_TRUE(opens("f"));
  EXPECT_FALSE(opens("../secret"));
  EXPECT_FALSE(opens("link"));
  EXPECT_FALSE(opens("up/secret"));
  EXPECT_FALSE(opens(at("secret").c_str()));
  const auto walks = [&](const char* path, int flags) {
    return static_cast<bool>(UniqueFd(open_by_walking(inside.get(), path, flags, 0)));
  };
  EXPECT_TRUE(walks("f", O_RDONLY));
  EXPECT_TRUE(walks("./f", O_PATH));
  EXPECT_TRUE(walks(".", O_RDONLY | O_DIRECTORY));
  for (const int flags : {O_RDONLY, O_PATH}) {
    EXPECT_FALSE(walks("../secret", flags));
    EXPECT_FALSE(walks("link", flags));
    EXPECT_FALSE(walks("up/secret", flags));
    EXPECT_FALSE(walks(at("secret").c_str(), flags));
  }
}

TEST(ParentOf, KnowsRootAndBareNames) {
  EXPECT_EQ(parent_of("/a/b/c"), "/a/b");
  EXPECT_EQ(parent_of("a/b/"), "a");
  EXPECT_EQ(parent_of("/a"), "/");
  EXPECT_EQ(parent_of("a"), ".");
  EXPECT_EQ(parent_of("/"), "/");
}

}  // namespace
}  // namespace holdfast::io
