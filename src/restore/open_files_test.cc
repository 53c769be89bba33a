#include "restore/open_files.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "io/fault_file_system.h"

namespace holdfast::restore {
namespace {

class OpenFilesTest : public ::testing::Test {
 protected:
  OpenFilesTest() {
    std::string pattern = "/tmp/holdfast-open-XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    memory_ = std::aligned_alloc(io::kDirectAlignment, kBytes);
    buffer_ = {static_cast<std::byte*>(memory_), kBytes};
  }
  ~OpenFilesTest() override {
    std::free(memory_);
    std::filesystem::remove_all(root_);
  }
  std::string make(const std::string& name, std::uint64_t size) const {
    std::ofstream created(root_ + "/" + name);
    std::filesystem::resize_file(root_ + "/" + name, size);
    return root_ + "/" + name;
  }

  static constexpr std::size_t kBytes = 1 << 20;
  std::string root_;
  void* memory_ = nullptr;
  MutableByteView buffer_;
  io::FaultFileSystem system_;
};

TEST_F(OpenFilesTest, KeepsNoMoreFilesOpenThanAllowed) {
  OpenFiles files(system_, 3);
  for (int i = 0; i < 10; ++i) {
    const std::string path = make(std::to_string(i), 8192);
    files.write({.path = path, .file_size = 8192, .offset = 0}, buffer_.first(8192));
    EXPECT_LE(files.open_count(), 3U);
  }
}

TEST_F(OpenFilesTest, OpensAFileInUseOnce) {
  OpenFiles files(system_, 2);
  const std::string path = make("a", 8192);
  const auto before = system_.calls(io::FileCall::Open);
  for (int i = 0; i < 5; ++i) {
    files.write({.path = path, .file_size = 8192, .offset = 0}, buffer_.first(8192));
  }
  EXPECT_EQ(system_.calls(io::FileCall::Open) - before, 1U);
}

TEST_F(OpenFilesTest, ReadsBackWhatWasWrittenPastTheCacheAndNot) {
  OpenFiles files(system_);
  const std::uint64_t size = (2U << 20) + 8192 + 100;
  const std::string path = make("big", size);
  std::uint64_t offset = 0;
  for (const std::size_t length : {kBytes, kBytes, std::size_t{8192 + 100}}) {
    std::fill(buffer_.begin(), buffer_.end(), std::byte(7 + offset / kBytes));
    files.write({.path = path, .file_size = size, .offset = offset}, buffer_.first(length));
    std::fill(buffer_.begin(), buffer_.end(), std::byte{0});
    ASSERT_TRUE(files.read({.path = path, .file_size = size, .offset = offset}, length, buffer_));
    for (std::size_t i = 0; i < length; ++i) {
      ASSERT_EQ(buffer_[i], std::byte(7 + offset / kBytes)) << offset + i;
    }
    offset += length;
  }
  EXPECT_EQ(std::filesystem::file_size(path), size);
}

TEST_F(OpenFilesTest, TellsWhenAFileEndsBeforeTheFrame) {
  OpenFiles files(system_);
  const std::string path = make("short", 4096);
  EXPECT_FALSE(files.read({.path = path, .file_size = 8192, .offset = 0}, 8192, buffer_));
}

TEST_F(OpenFilesTest, ADiskThatWantsAnotherAlignmentGetsItThroughTheCache) {
  OpenFiles files(system_);
  const std::string path = make("big", 2U << 20);
  system_.add({.call = io::FileCall::Write, .nth = 1, .error_number = EINVAL});
  const auto before = system_.calls(io::FileCall::Write);
  files.write({.path = path, .file_size = 2U << 20, .offset = 0}, buffer_);
  EXPECT_EQ(system_.calls(io::FileCall::Write) - before, 2U);
}

TEST_F(OpenFilesTest, AWriteThatFailsPastTheCacheIsNotTriedThroughIt) {
  OpenFiles files(system_);
  const std::string path = make("big", 2U << 20);
  system_.add({.call = io::FileCall::Write, .nth = 1, .error_number = ENOSPC});
  try {
    files.write({.path = path, .file_size = 2U << 20, .offset = 0}, buffer_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kDiskFull);
    EXPECT_NE(error.message().find(path), std::string::npos);
  }
}

}  // namespace
}  // namespace holdfast::restore
