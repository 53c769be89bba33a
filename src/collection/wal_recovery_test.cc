#include "collection/wal_recovery.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <utility>

#include "base/error.h"
#include "collection/wal_tail.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

const WalSegmentId kId{
    .system_identifier = 42, .timeline = 1, .segment = 300, .segment_bytes = 1U << 20};

WalSegmentId later(std::uint64_t by) {
  WalSegmentId id = kId;
  id.segment += by;
  return id;
}

ReadWal filled_with(char byte) {
  return [byte](std::uint64_t, MutableByteView into) {
    for (std::byte& to : into) to = static_cast<std::byte>(byte);
  };
}

/// Lets the archiver do something right before a listing answers.
class GrowingStore : public storage::MemoryStore {
 public:
  void before_next_list(std::function<void()> act) { act_ = std::move(act); }
  void list(const storage::ObjectKey& prefix,
            const std::function<void(const storage::ObjectInfo&)>& visit,
            const Stop& stop) override {
    if (const auto act = std::exchange(act_, nullptr)) act();
    MemoryStore::list(prefix, visit, stop);
  }

 private:
  std::function<void()> act_;
};

class WalRecovery : public ::testing::Test {
 protected:
  ~WalRecovery() override { std::filesystem::remove(path_); }

  void archive(const WalSegmentId& id) {
    put_wal_segment(store_, id, filled_with('w'), Compression{}, stop_);
    remove_wal_tails(store_, id, id.segment_bytes, stop_);
  }
  void begin(const WalSegmentId& id, std::uint64_t bytes) {
    put_wal_tail(store_, id, bytes, filled_with('t'), Compression{}, stop_);
  }
  bool get() { return get_wal_for_recovery(store_, kId, path_, stop_); }
  std::string content() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void expect_gap() {
    try {
      get();
      FAIL() << "a gap was taken for the end of WAL";
    } catch (const Error& error) {
      EXPECT_EQ(error.message(),
                "WAL segment 00000001000000000000012C is missing in the archive, which goes on "
                "after it");
    }
    EXPECT_FALSE(std::filesystem::exists(path_));
  }

  const Stop stop_ = Stop::never();
  GrowingStore store_;
  const std::string path_ =
      std::filesystem::temp_directory_path() / ("holdfast_recovery." + std::to_string(::getpid()));
};

TEST_F(WalRecovery, GetsTheSegmentOrWhatThereIsOfTheLast) {
  begin(kId, 5000);
  ASSERT_TRUE(get());
  EXPECT_EQ(content(), std::string(5000, 't') + std::string(kId.segment_bytes - 5000, '\0'));
  archive(kId);
  ASSERT_TRUE(get());
  EXPECT_EQ(content(), std::string(kId.segment_bytes, 'w'));
}

TEST_F(WalRecovery, EndsWhereTheArchiveEnds) {
  EXPECT_FALSE(get());
  WalSegmentId earlier = kId;
  --earlier.segment;
  archive(earlier);
  WalSegmentId elsewhere = later(1);
  elsewhere.timeline = 2;
  archive(elsewhere);
  EXPECT_FALSE(get());
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(WalRecovery, TellsAnArchiveThatEndsFromNone) {
  const auto has_archive = [&](std::uint64_t system_identifier) {
    try {
      require_wal_archive(store_, system_identifier, stop_);
      return true;
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kUndefinedFile);
      EXPECT_EQ(error.message(),
                fmt::format("collection \"{}\" has no WAL of the server with system identifier {}",
                            store_.description(), system_identifier));
      return false;
    }
  };
  EXPECT_FALSE(has_archive(kId.system_identifier));
  WalSegmentId elsewhere = kId;
  elsewhere.timeline = 2;
  archive(elsewhere);
  EXPECT_TRUE(has_archive(kId.system_identifier));
  EXPECT_FALSE(has_archive(4)) << "whose name \"42\" begins with";
}

TEST_F(WalRecovery, DoesNotTakeAGapForTheEnd) {
  archive(later(2));
  expect_gap();
  begin(kId, 5000);
  expect_gap();
}

TEST_F(WalRecovery, SeesAGapBeforeATail) {
  begin(later(1), 5000);
  expect_gap();
}

TEST_F(WalRecovery, GetsASegmentThatWasFinishedMeanwhile) {
  begin(kId, 5000);
  store_.before_next_list([this] {
    archive(kId);
    begin(later(1), 100);
  });
  ASSERT_TRUE(get());
  EXPECT_EQ(content(), std::string(kId.segment_bytes, 'w'));
}

}  // namespace
}  // namespace holdfast::collection
