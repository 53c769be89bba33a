#include "backup/file_table.h"

#include <gtest/gtest.h>

#include "collection/format.h"

namespace holdfast::backup {
namespace {

using collection::kFrameBytes;
namespace manifest = collection::proto;

FileTable sample() {
  FileTable files;
  const auto root = files.add_directory("", 0700);
  const auto base = files.add_directory("base/5", 0700);
  files.add_file({.directory = root, .name = "PG_VERSION", .size = 3, .mode = 0600});
  files.add_file({.directory = base,
                  .name = "1259",
                  .size = 2 * kFrameBytes + 1,
                  .mode = 0600,
                  .kind = manifest::FILE_KIND_RELATION});
  files.add_file({.directory = base, .name = "2600", .size = 0, .mode = 0600});
  files.add_file({.directory = FileTable::kNoDirectory,
                  .name = "/etc/postgresql/15/main/postgresql.conf",
                  .size = kFrameBytes,
                  .mode = 0644,
                  .kind = manifest::FILE_KIND_EXTERNAL_CONFIG});
  return files;
}

TEST(FileTable, NumbersFilesInPathOrderFromOne) {
  FileTable files = sample();
  files.number(nullptr);
  EXPECT_EQ(files[0].id, 1U);
  EXPECT_EQ(files[3].id, 4U);
  EXPECT_EQ(files.find(2), 1U);
  EXPECT_FALSE(files.find(0));
  EXPECT_FALSE(files.find(5));
  EXPECT_EQ(files.path(0), "PG_VERSION");
  EXPECT_EQ(files.path(1), "base/5/1259");
  EXPECT_EQ(files.path(3), "/etc/postgresql/15/main/postgresql.conf");
}

TEST(FileTable, CountsFramesByPlannedAndCurrentSize) {
  FileTable files = sample();
  files.number(nullptr);
  EXPECT_EQ(files.total_frames(), 5U);
  EXPECT_EQ(files.frames(1), 3U);
  EXPECT_EQ(files.frames(2), 0U);
  EXPECT_EQ(files[3].first_frame, 4U);
  files[1].size = kFrameBytes;
  EXPECT_EQ(files.frames(1), 1U);
  EXPECT_EQ(files.planned_frames(1), 3U);
  EXPECT_EQ(files.planned_frames(3), 1U);
}

TEST(FileTable, KeepsTheIdsOfAnEarlierAttempt) {
  manifest::Manifest earlier;
  auto& known = *earlier.add_files();
  known.set_path("base/5/1259");
  known.set_id(7);
  earlier.add_packs()->set_last_file(9);  // a file that is gone, but in a pack
  FileTable files = sample();
  files.number(&earlier);
  EXPECT_EQ(files[1].id, 7U);
  EXPECT_EQ(files[0].id, 10U);
  EXPECT_EQ(files[2].id, 11U);
  EXPECT_EQ(files.find(7), 1U);
}

TEST(FileTable, StoresWhatIsNotGoneInOrderOfId) {
  manifest::Manifest earlier;
  auto& known = *earlier.add_files();
  known.set_path("base/5/2600");
  known.set_id(1);
  FileTable files = sample();
  files.number(&earlier);
  files[0].vanished = true;
  manifest::Manifest out;
  files.store(out);
  ASSERT_EQ(out.files_size(), 3);
  EXPECT_EQ(out.files(0).path(), "base/5/2600");
  EXPECT_EQ(out.files(1).path(), "base/5/1259");
  EXPECT_EQ(out.files(1).kind(), manifest::FILE_KIND_RELATION);
  EXPECT_EQ(out.files(1).size(), 2 * kFrameBytes + 1);
  EXPECT_EQ(out.files(2).mode(), 0644U);
  EXPECT_EQ(files.total_bytes(), 3 * kFrameBytes + 1);
}

}  // namespace
}  // namespace holdfast::backup
