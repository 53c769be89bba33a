#include "collection/wal_archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "io/file.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using storage::PutMode;
using testing::ElementsAre;
using testing::HasSubstr;

/// Bytes that differ from segment to segment and from frame to frame.
ReadWal pattern_reader(std::uint64_t seed) {
  return [seed](std::uint64_t offset, MutableByteView into) {
    for (std::size_t i = 0; i < into.size(); ++i) {
      into[i] = static_cast<std::byte>((offset + i) / 977 + seed);
    }
  };
}

class WalArchiveTest : public ::testing::Test {
 protected:
  std::string pattern_ = testing::TempDir() + "/holdfast-wal-XXXXXX";
  std::string directory_ = ::mkdtemp(pattern_.data());
  ~WalArchiveTest() override { std::filesystem::remove_all(directory_); }

  std::uint64_t put(const WalSegmentId& id, std::uint64_t seed) {
    return put_wal_segment(store_, id, pattern_reader(seed), Compression{}, stop_);
  }
  /// Whether the archive gives back exactly what pattern_reader(seed) made.
  bool holds(const WalSegmentId& id, std::uint64_t seed) {
    bool same = true;
    std::uint64_t expected = 0;
    const bool found = get_wal_segment(
        store_, id,
        [&](std::uint64_t offset, ByteView bytes) {
          EXPECT_EQ(offset, expected);
          expected += bytes.size();
          Bytes made(bytes.size());
          pattern_reader(seed)(offset, made);
          same = same && std::equal(made.begin(), made.end(), bytes.begin());
        },
        stop_);
    // The memory has what the last segment left in it.
    Bytes made(id.segment_bytes);
    pattern_reader(seed)(0, made);
    segment_.resize(id.segment_bytes);
    EXPECT_EQ(get_wal_segment(store_, id, segment_, object_, stop_), found);
    if (found) {
      EXPECT_EQ(segment_ == made, same);
    }
    return found && same && expected == id.segment_bytes;
  }

  WalSegmentId id_{
      .system_identifier = 42, .timeline = 1, .segment = 300, .segment_bytes = 4U << 20};
  storage::MemoryStore store_;
  Stop stop_ = Stop::never();
  Bytes segment_;
  Bytes object_;
};

TEST_F(WalArchiveTest, GivesBackWhatWasArchived) {
  EXPECT_FALSE(holds(id_, 1));
  EXPECT_FALSE(stat_wal_segment(store_, id_, stop_));
  const std::uint64_t stored = put(id_, 1);
  EXPECT_TRUE(holds(id_, 1));
  EXPECT_EQ(stat_wal_segment(store_, id_, stop_), stored);
  EXPECT_EQ(store_.stat(wal_key(42, 1, 300, 4U << 20), stop_)->size, stored);
}

TEST_F(WalArchiveTest, LargeSegmentsAreSeveralObjects) {
  id_.segment_bytes = 128U << 20;
  const std::uint64_t stored = put(id_, 1);
  int objects = 0;
  store_.list(
      "", [&](const storage::ObjectInfo&) { ++objects; }, stop_);
  EXPECT_EQ(objects, 2);
  EXPECT_TRUE(holds(id_, 1));
  EXPECT_EQ(stat_wal_segment(store_, id_, stop_), stored);
  EXPECT_THAT(list_wal_segments(store_, 42, 1, id_.segment_bytes, stop_), ElementsAre(300));
}

TEST_F(WalArchiveTest, ArchivingTheSameAgainIsFineInAnyCompression) {
  const std::uint64_t stored = put(id_, 1);
  EXPECT_EQ(put_wal_segment(store_, id_, pattern_reader(1), Compression::parse("lz4"), stop_),
            stored);
}

TEST_F(WalArchiveTest, AnotherClustersSegmentIsRefused) {
  put(id_, 1);
  try {
    put(id_, 2);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kDuplicateFile);
    EXPECT_THAT(error.message(), HasSubstr(wal_key(42, 1, 300, 4U << 20)));
  }
  EXPECT_TRUE(holds(id_, 1));
}

TEST_F(WalArchiveTest, DamageIsFoundAndNamed) {
  put(id_, 1);
  const std::string key = wal_key(42, 1, 300, 4U << 20);
  const Bytes good = *get_whole(store_, key, 1 << 20, stop_);
  for (std::size_t at = 0; at < good.size(); at += 41) {
    Bytes bent = good;
    bent[at] ^= std::byte{1};
    store_.put(key, bent, PutMode::Overwrite, stop_);
    try {
      EXPECT_TRUE(holds(id_, 1)) << "byte " << at;
    } catch (const Error& error) {
      EXPECT_THAT(error.message(), HasSubstr(key));
    }
  }
  // An object of another place, whole in itself.
  store_.put(key, good, PutMode::Overwrite, stop_);
  const std::string other = wal_key(42, 1, 301, 4U << 20);
  store_.put(other, good, PutMode::Overwrite, stop_);
  WalSegmentId moved = id_;
  moved.segment = 301;
  EXPECT_THROW(holds(moved, 1), Error);
}

TEST_F(WalArchiveTest, FilesGoInAndOut) {
  const std::string source = directory_ + "/source";
  Bytes content(id_.segment_bytes);
  pattern_reader(3)(0, content);
  io::write_file_atomically(io::FileSystem::real(), source, content);
  put_wal_segment_file(store_, id_, source, Compression{}, stop_);
  const std::string target = directory_ + "/target";
  EXPECT_TRUE(get_wal_segment_file(store_, id_, target, stop_));
  EXPECT_TRUE(*io::read_whole(io::FileSystem::real(), target, content.size()) == content);
  WalSegmentId absent = id_;
  absent.segment = 1;
  EXPECT_FALSE(get_wal_segment_file(store_, absent, directory_ + "/absent", stop_));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/absent"));
  WalSegmentId longer = id_;
  longer.segment_bytes *= 2;
  EXPECT_THROW(put_wal_segment_file(store_, longer, source, Compression{}, stop_), Error);
}

TEST_F(WalArchiveTest, AFailedReadLeavesNoFile) {
  put(id_, 1);
  const std::string key = wal_key(42, 1, 300, 4U << 20);
  Bytes bent = *get_whole(store_, key, 1 << 20, stop_);
  bent[kPackHeaderBytes + 8] ^= std::byte{0xff};
  store_.put(key, bent, PutMode::Overwrite, stop_);
  EXPECT_THROW(get_wal_segment_file(store_, id_, directory_ + "/t", stop_), Error);
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/t"));
}

TEST_F(WalArchiveTest, ListsItsSegmentsAmongForeignThings) {
  for (const std::uint64_t segment : {1025ULL, 1ULL, 300ULL}) {
    WalSegmentId id = id_;
    id.segment = segment;
    put(id, segment);
  }
  for (const char* key : {"wal/42/00000001/notes", "wal/42/00000001/00000001000000000000000G.wal",
                          "wal/42/00000002/000000020000000000000001.wal"}) {
    store_.put(key, as_bytes("x"), PutMode::OnlyIfAbsent, stop_);
  }
  EXPECT_THAT(list_wal_segments(store_, 42, 1, id_.segment_bytes, stop_),
              ElementsAre(1, 300, 1025));
}

TEST_F(WalArchiveTest, KeepsTimelineHistories) {
  const std::string_view history = "1\t0/3000000\tno recovery target specified\n";
  EXPECT_FALSE(get_timeline_history(store_, 42, 2, stop_));
  put_timeline_history(store_, 42, 2, as_bytes(history), stop_);
  put_timeline_history(store_, 42, 2, as_bytes(history), stop_);
  EXPECT_EQ(as_text(*get_timeline_history(store_, 42, 2, stop_)), history);
  EXPECT_THROW(put_timeline_history(store_, 42, 2, as_bytes("other"), stop_), Error);
  // A layer has its own, or that of the archive.
  constexpr std::string_view kOfLayer = "2026/11/20-223000.00/wal/x";
  EXPECT_EQ(as_text(*get_timeline_history(store_, 42, 2, stop_, kOfLayer)), history);
  put_timeline_history(store_, 42, 2, as_bytes("other"), stop_, kOfLayer);
  EXPECT_EQ(as_text(*get_timeline_history(store_, 42, 2, stop_, kOfLayer)), "other");
  EXPECT_TRUE(store_.stat(std::string(kOfLayer) + "/wal/42/00000002.history", stop_));
  EXPECT_EQ(as_text(*get_timeline_history(store_, 42, 2, stop_)), history);
}

TEST_F(WalArchiveTest, RefusesSegmentSizesThatPostgresDoesNotHave) {
  for (const std::uint64_t bytes : {0ULL, 3ULL << 20, 1ULL << 19, 1ULL << 31}) {
    id_.segment_bytes = bytes;
    EXPECT_THROW(put(id_, 1), Error) << bytes;
  }
}

}  // namespace
}  // namespace holdfast::collection
