#include "backup/copy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <string>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "io/file.h"
#include "postgres/page.h"
#include "storage/memory_store.h"

namespace holdfast::backup {
namespace {

using collection::kFrameBytes;
using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr const char* kDirectory = "2026/11/20-223000.00";

class Watcher final : public CopyObserver {
 public:
  void frame_done(std::uint64_t bytes) override {
    bytes_ += bytes;
    if (on_frame) on_frame();
  }
  void pack_stored() override { ++packs_; }
  std::uint64_t bytes() const { return bytes_; }
  int packs() const { return packs_; }
  std::function<void()> on_frame;

 private:
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<int> packs_{0};
};

class CopyTest : public ::testing::Test {
 protected:
  CopyTest() : root_(std::filesystem::temp_directory_path() / ("copy-" + io::random_suffix())) {
    std::filesystem::create_directories(root_ / "base/5");
    base_ = state_.files.add_directory("base/5", 0700);
  }
  ~CopyTest() override { std::filesystem::remove_all(root_); }

  std::filesystem::path path(const std::string& name) const { return root_ / "base/5" / name; }

  void add(const std::string& name, std::uint64_t size,
           collection::proto::FileKind kind = collection::proto::FILE_KIND_PLAIN) {
    std::ofstream file(path(name), std::ios::binary);
    for (std::uint64_t i = 0; i < size; i += 8) {
      const std::uint64_t word = i * 0x9E3779B97F4A7C15ULL + size;
      file.write(reinterpret_cast<const char*>(&word),
                 static_cast<std::streamsize>(std::min<std::uint64_t>(8, size - i)));
    }
    state_.files.add_file(
        {.directory = base_, .name = name, .size = size, .mode = 0600, .kind = kind});
  }

  void number() {
    state_.files.number(nullptr);
    state_.done.assign(state_.files.total_frames(), false);
  }

  CopyRequest request(PageChecksums checksums = PageChecksums::Off) {
    return {.place = {.store = store_, .directory = kDirectory, .uuid = {}},
            .data_directory = root_,
            .checksums = checksums,
            .compression = collection::Compression::parse("none"),
            .workers = 2,
            .throttle = throttle_};
  }

  void copy(PageChecksums checksums = PageChecksums::Off) {
    copy_frames(request(checksums), state_, watcher_, Stop::never());
    state_.changes.apply(state_.files);
    supersede_changed(request().place, state_.files, state_.ledger, Stop::never());
  }

  /// Path → content of what counts in the packs.
  std::map<std::string, std::string> stored() {
    std::map<std::string, std::string> content;
    for (std::size_t i = 0; i < state_.files.size(); ++i) {
      if (!state_.files[i].vanished)
        content[state_.files.path(i)].resize(state_.files[i].size, '?');
    }
    collection::FrameDecoder decoder;
    for (const auto& pack : state_.ledger.packs()) {
      const auto key = collection::pack_key(kDirectory, pack.number());
      const auto entries =
          collection::read_pack_index(store_, key, collection::summary_of(pack), {}, Stop::never());
      const std::set<std::uint32_t> superseded(pack.superseded().begin(), pack.superseded().end());
      for (std::uint32_t i = 0; i < entries.size(); ++i) {
        if (superseded.contains(i)) continue;
        Bytes bytes(entries[i].stored_bytes);
        Bytes plain(entries[i].plain_bytes);
        store_.get_into(key, entries[i].offset, bytes, Stop::never());
        decoder.decode(entries[i], bytes, plain, key);
        const auto position = state_.files.find(entries[i].file_id);
        if (!position || state_.files[*position].vanished) {
          ADD_FAILURE() << "frame of a file that is gone";
          continue;
        }
        content.at(state_.files.path(*position))
            .replace(std::size_t{entries[i].frame} * kFrameBytes, plain.size(),
                     std::string(as_text(plain)));
      }
    }
    return content;
  }

  std::string content(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::filesystem::path root_;
  std::uint32_t base_ = 0;
  CopyState state_;
  storage::MemoryStore store_;
  io::Throttle throttle_{0};
  Watcher watcher_;
};

TEST_F(CopyTest, CopiesSmallAndLargeFilesWhole) {
  add("1", 3 * kFrameBytes + 100);
  for (int i = 10; i < 300; ++i) add(std::to_string(i), static_cast<std::uint64_t>(i));
  add("empty", 0);
  number();
  copy();
  for (const auto& [file, bytes] : stored()) {
    EXPECT_EQ(bytes, content(file.substr(7))) << file;
  }
  EXPECT_EQ(watcher_.bytes(), state_.files.total_bytes());
  EXPECT_EQ(state_.bytes_read, state_.files.total_bytes());
  EXPECT_EQ(static_cast<std::size_t>(watcher_.packs()), state_.ledger.size());
}

TEST_F(CopyTest, ReadsTheChosenBlocksAndNoOthers) {
  add("1", 4 * kFrameBytes, collection::proto::FILE_KIND_RELATION);
  add("2", 100);
  number();
  state_.selection.set(0, Selection::How::Blocks);
  for (const std::size_t block : {0, 1, 5, 127}) state_.selection.add_block(2, block);
  state_.done[0] = state_.done[1] = state_.done[3] = true;
  copy();
  EXPECT_EQ(state_.bytes_read, 4 * collection::kBlockBytes + 100);
  EXPECT_EQ(watcher_.bytes(), state_.bytes_read);
}

TEST_F(CopyTest, LeavesOutFilesThatAreGone) {
  add("1", 2 * kFrameBytes);
  add("2", 100);
  number();
  std::filesystem::remove(path("1"));
  copy();
  EXPECT_THAT(stored(), SizeIs(1));
  EXPECT_EQ(stored().at("base/5/2"), content("2"));
}

TEST_F(CopyTest, SupersedesTheFramesOfAFileThatGoesWhileItIsCopied) {
  add("1", 200 * kFrameBytes);
  number();
  // With the file open, reading goes on; a worker that opens it later finds it gone. So the second
  // half is asked for by a second copy.
  std::fill(state_.done.begin() + 100, state_.done.end(), true);
  copy_frames(request(), state_, watcher_, Stop::never());
  std::filesystem::remove(path("1"));
  state_.done.flip();
  copy();
  state_.ledger.drop_useless();
  EXPECT_THAT(stored(), ::testing::IsEmpty());
  EXPECT_EQ(state_.ledger.size(), 0U);
}

TEST_F(CopyTest, KeepsTruncatedFilesAsLongAsTheyWereRead) {
  add("1", 10 * kFrameBytes);
  add("2", 100);
  number();
  copy_frames(request(), state_, watcher_, Stop::never());
  // As a worker sees it that comes to frame 4 after the others have read all the rest.
  state_.changes.shortened(0, 4 * kFrameBytes + 8192);
  state_.changes.shortened(0, 5 * kFrameBytes);
  std::filesystem::resize_file(path("1"), 4 * kFrameBytes + 8192);
  state_.changes.apply(state_.files);
  EXPECT_EQ(state_.files[0].size, 4 * kFrameBytes + 8192);
  supersede_changed(request().place, state_.files, state_.ledger, Stop::never());
  std::size_t superseded = 0;
  for (const auto& pack : state_.ledger.packs()) {
    superseded += static_cast<std::size_t>(pack.superseded_size());
  }
  EXPECT_EQ(superseded, 5U);
}

TEST_F(CopyTest, HasNothingInSegmentsAboveATruncatedOne) {
  for (const char* name : {"10", "10.1", "10.10", "10.2", "10.9", "100", "10_fsm"}) {
    add(name, 8192, collection::proto::FILE_KIND_RELATION);
  }
  number();
  copy_frames(request(), state_, watcher_, Stop::never());
  state_.changes.shortened(3, 0);  // 10.2
  state_.changes.apply(state_.files);
  std::map<std::string, std::uint64_t> sizes;
  for (std::size_t i = 0; i < state_.files.size(); ++i) {
    sizes[state_.files.path(i)] = state_.files[i].size;
  }
  EXPECT_EQ(sizes, (std::map<std::string, std::uint64_t>{{"base/5/10", 8192},
                                                         {"base/5/10.1", 8192},
                                                         {"base/5/10.10", 0},
                                                         {"base/5/10.2", 0},
                                                         {"base/5/10.9", 0},
                                                         {"base/5/100", 8192},
                                                         {"base/5/10_fsm", 8192}}));
  supersede_changed(request().place, state_.files, state_.ledger, Stop::never());
  std::size_t superseded = 0;
  for (const auto& pack : state_.ledger.packs()) {
    superseded += static_cast<std::size_t>(pack.superseded_size());
  }
  EXPECT_EQ(superseded, 3U);
}

TEST_F(CopyTest, ReadsATruncatedFileToItsEnd) {
  add("1", 10 * kFrameBytes);
  number();
  std::filesystem::resize_file(path("1"), 4 * kFrameBytes + 8192);
  copy();
  EXPECT_EQ(stored().at("base/5/1"), content("1"));
}

TEST_F(CopyTest, TakesOnlyThePlannedPartOfAFileThatGrew) {
  add("1", kFrameBytes + 8192);
  number();
  const std::string before = content("1");
  std::ofstream(path("1"), std::ios::app) << std::string(3 * kFrameBytes, 'n');
  copy();
  EXPECT_EQ(stored().at("base/5/1"), before);
}

TEST_F(CopyTest, TakesASmallFileWholeThatWasReplacedByALongerOne) {
  add("postgresql.auto.conf", 100);
  add("16384", 100, collection::proto::FILE_KIND_RELATION);
  number();
  std::ofstream(path("postgresql.auto.conf"), std::ios::app) << "work_mem = '64MB'\n";
  std::ofstream(path("16384"), std::ios::app) << "a page more";
  copy();
  EXPECT_EQ(stored().at("base/5/postgresql.auto.conf"), content("postgresql.auto.conf"));
  EXPECT_EQ(stored().at("base/5/16384"), content("16384").substr(0, 100));
}

TEST_F(CopyTest, ReportsPagesWhoseChecksumStaysWrong) {
  add("16384.1", 4 * 8192, collection::proto::FILE_KIND_RELATION);
  add("16385", 4 * 8192);
  number();
  copy(PageChecksums::On);
  // Nothing in it is a valid page; block numbers count from the relation's beginning.
  const auto suspects = state_.changes.suspects();
  ASSERT_THAT(suspects, SizeIs(4));
  EXPECT_EQ(suspects.begin()->relation.relation, 16384U);
  EXPECT_EQ(suspects.begin()->relation.database, 5U);
  EXPECT_EQ(suspects.begin()->block, postgres::kRelationSegmentBlocks);
}

TEST_F(CopyTest, AcceptsZeroPagesAndATornTail) {
  std::ofstream(path("16384"), std::ios::binary) << std::string(3 * 8192 + 4096, '\0');
  state_.files.add_file({.directory = base_,
                         .name = "16384",
                         .size = 3 * 8192 + 4096,
                         .mode = 0600,
                         .kind = collection::proto::FILE_KIND_RELATION});
  number();
  copy(PageChecksums::On);
  EXPECT_THAT(state_.changes.suspects(), ::testing::IsEmpty());
  EXPECT_EQ(stored().at("base/5/16384").size(), 3 * 8192 + 4096U);
}

TEST_F(CopyTest, ReusesEqualFramesAndSupersedesOthers) {
  add("1", 3 * kFrameBytes);
  add("2", 500);
  add("3", 500);
  number();
  copy_frames(request(), state_, watcher_, Stop::never());
  const auto packs = state_.ledger.packs();

  CopyState again;
  const auto base = again.files.add_directory("base/5", 0700);
  again.files.add_file({.directory = base, .name = "1", .size = 3 * kFrameBytes, .mode = 0600});
  again.files.add_file({.directory = base, .name = "2", .size = 500, .mode = 0600});
  again.files.number(nullptr);
  again.done.assign(again.files.total_frames(), false);
  std::fstream(path("1"), std::ios::in | std::ios::out | std::ios::binary)
      .seekp(kFrameBytes + 5)
      .put('!');
  reuse_packs(request(), packs, again, watcher_, Stop::never());
  EXPECT_THAT(again.done, ElementsAre(true, false, true, true));
  std::size_t superseded = 0;
  for (const auto& pack : again.ledger.packs()) {
    superseded += static_cast<std::size_t>(pack.superseded_size());
  }
  EXPECT_EQ(superseded, 2U);  // the changed frame, and the file that is no longer planned
}

TEST_F(CopyTest, StopsBetweenFrames) {
  add("1", 50 * kFrameBytes);
  number();
  StopSource source;
  watcher_.on_frame = [&] { source.request(StopReason::Pause); };
  EXPECT_THROW(copy_frames(request(), state_, watcher_, source.stop()), Stopped);
  EXPECT_LT(watcher_.bytes(), 10 * kFrameBytes);
}

TEST_F(CopyTest, HoldsTheRate) {
  add("1", 4 * kFrameBytes);
  number();
  io::Throttle slow(4 * kFrameBytes);
  CopyRequest limited{.place = {.store = store_, .directory = kDirectory, .uuid = {}},
                      .data_directory = root_,
                      .checksums = PageChecksums::Off,
                      .compression = {},
                      .workers = 2,
                      .throttle = slow};
  const auto start = std::chrono::steady_clock::now();
  copy_frames(limited, state_, watcher_, Stop::never());
  EXPECT_GT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(400));
}

}  // namespace
}  // namespace holdfast::backup
