#include "postgres/tablespace_creation.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "io/file.h"
#include "postgres/testing/wal_builder.h"
#include "postgres/wal_changes.h"
#include "postgres/wal_scan.h"

namespace holdfast::postgres {
namespace {

constexpr std::uint64_t kSegment = 1U << 20;
constexpr std::uint64_t kFirstSegment = 5;
constexpr std::string_view kLocation = "/srv/fast disks/space";

Bytes creation(std::uint32_t oid, std::string_view path) {
  Bytes data(sizeof oid);
  store(data, 0, oid);
  const ByteView text = as_bytes(path);
  data.insert(data.end(), text.begin(), text.end());
  data.push_back(std::byte{0});
  return data;
}

/// WAL in files, with a tablespace's creation `room` bytes before the end of a page.
class Files {
 public:
  Files(std::uint64_t page, std::uint64_t room) {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    testing::WalBuilder builder(15, start_, kSegment);
    const std::uint64_t wanted = start_.value + (page + 1) * testing::WalBuilder::kPage - room;
    while (builder.position().value + 512 < wanted) {
      builder.add({.resource_manager = rmgr::kXlog, .info = 0x20, .main_data = Bytes(128)});
    }
    // Header and data header are 26 bytes.
    const std::uint64_t left = wanted - align(builder.position().value);
    builder.add({.resource_manager = rmgr::kXlog, .info = 0x20, .main_data = Bytes(left - 29)});
    record_ = builder.add(
        {.resource_manager = rmgr::kTablespace, .main_data = creation(16400, kLocation)});
    end_ = builder.add({.resource_manager = rmgr::kXlog, .info = 0x20, .main_data = Bytes(128)});
    const Bytes all = builder.whole_segments();
    for (std::uint64_t at = 0; at < all.size(); at += kSegment) {
      io::write_file_atomically(io::FileSystem::real(), file(at / kSegment),
                                ByteView(all).subspan(at, kSegment), 0600);
    }
  }
  ~Files() { std::filesystem::remove_all(directory_); }

  Lsn record() const { return record_; }
  WalFiles wal() const { return {directory_, TimelinePath(1, {}), kSegment}; }

  struct Found {
    std::string location;
    bool hidden = false;
    Bytes bytes;
    Bytes hidden_form;
    Bytes seen_form;
  };
  /// Reads all of it, and so checks every checksum.
  Found find() const {
    Found found;
    const WalRange range{.reader = {.major = 15, .wal_segment_bytes = kSegment, .start = start_},
                         .end = Lsn{end_.value + 1}};
    scan_wal(
        range, wal_directory_input(directory_, 1, kSegment),
        [&](const WalRecord& record) {
          const auto created = parse_tablespace_creation(record);
          if (!created) return;
          EXPECT_EQ(created->oid, 16400U);
          EXPECT_EQ(record.start, record_);
          found = {.location = std::string(created->location),
                   .hidden = created->hidden,
                   .bytes = Bytes(record.bytes.begin(), record.bytes.end()),
                   .hidden_form = with_path(record, TablespacePath::Hidden),
                   .seen_form = with_path(record, TablespacePath::Seen)};
        },
        Stop::never());
    return found;
  }
  std::string all() const {
    std::string text;
    for (std::uint64_t i = 0; std::filesystem::exists(file(i)); ++i) {
      text += as_text(*io::read_whole(io::FileSystem::real(), file(i), kSegment));
    }
    return text;
  }

 private:
  static std::uint64_t align(std::uint64_t value) { return (value + 7) / 8 * 8; }
  std::string file(std::uint64_t index) const {
    return directory_ + "/" + wal_segment_name(1, kFirstSegment + index, kSegment);
  }

  const std::string directory_ =
      fmt::format("{}/tablespace_creation_{}", ::testing::TempDir(), ::getpid());
  const Lsn start_{kFirstSegment * kSegment};
  Lsn record_;
  Lsn end_;
};

TEST(TablespaceCreation, ItsPathIsHiddenAndSeenAgainWhereverPagesEnd) {
  constexpr std::uint64_t kLastPage = kSegment / testing::WalBuilder::kPage - 1;
  for (const std::uint64_t page : {std::uint64_t{1}, kLastPage}) {
    for (std::uint64_t room = 8; room <= 64; room += 8) {
      const Files files(page, room);
      const std::string before = files.all();
      const auto seen = files.find();
      EXPECT_EQ(seen.location, kLocation);
      EXPECT_FALSE(seen.hidden);
      EXPECT_EQ(seen.seen_form, seen.bytes);
      overwrite_record(io::FileSystem::real(), files.wal(), files.record(), seen.hidden_form);
      const auto hidden = files.find();
      EXPECT_EQ(hidden.location, kLocation) << page << " " << room;
      EXPECT_TRUE(hidden.hidden);
      EXPECT_EQ(hidden.bytes.size(), seen.bytes.size());
      EXPECT_EQ(hidden.seen_form, seen.bytes);
      // What PostgreSQL takes for the path ends at once.
      EXPECT_EQ(hidden.bytes[hidden.bytes.size() - kLocation.size() - 1], std::byte{0});
      EXPECT_EQ(as_text(hidden.bytes).substr(hidden.bytes.size() - kLocation.size()), kLocation);
      overwrite_record(io::FileSystem::real(), files.wal(), files.record(), hidden.seen_form);
      EXPECT_EQ(files.all(), before);
    }
  }
}

TEST(TablespaceCreation, OneThatWasMadeInPlaceHasNoLocation) {
  WalRecord record;
  record.resource_manager = rmgr::kTablespace;
  const Bytes data = creation(16400, "");
  record.main_data = data;
  const auto created = parse_tablespace_creation(record);
  ASSERT_TRUE(created);
  EXPECT_EQ(created->location, "");
  EXPECT_FALSE(created->hidden);
}

TEST(TablespaceCreation, OtherRecordsAndImpossibleOnes) {
  WalRecord record;
  record.resource_manager = rmgr::kTablespace;
  record.info = 0x10;  // a drop
  EXPECT_FALSE(parse_tablespace_creation(record));
  record.info = 0;
  EXPECT_THROW(parse_tablespace_creation(record), Error);
  Bytes data = creation(16400, kLocation);
  data.pop_back();
  record.main_data = data;
  record.bytes = data;
  EXPECT_THROW(with_path(record, TablespacePath::Hidden), Error);
}

}  // namespace
}  // namespace holdfast::postgres
