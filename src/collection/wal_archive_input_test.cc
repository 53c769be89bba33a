#include "collection/wal_archive_input.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "collection/wal_archive.h"
#include "storage/fault_store.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kInputSystem = 4711;
constexpr std::uint64_t kSegmentBytes = 1U << 20;
constexpr std::uint64_t kFirst = 16;
constexpr std::uint64_t kCount = 14;

/// Segments of different content in an archive.
class WalArchiveInputTest : public ::testing::Test {
 protected:
  WalArchiveInputTest() {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      Bytes content(kSegmentBytes);
      for (std::size_t at = 0; at < content.size(); ++at) {
        content[at] = static_cast<std::byte>((at / 97 + i * 31) & 0xFF);
      }
      const auto read = [&](std::uint64_t offset, MutableByteView into) {
        std::copy_n(content.begin() + static_cast<std::ptrdiff_t>(offset), into.size(),
                    into.begin());
      };
      put_wal_segment(store_, id(kFirst + i), read, Compression{}, stop_);
      contents_.push_back(std::move(content));
    }
  }

  static WalSegmentId id(std::uint64_t segment) {
    return {.system_identifier = kInputSystem,
            .timeline = 1,
            .segment = segment,
            .segment_bytes = kSegmentBytes};
  }
  static std::string name(std::uint64_t segment) {
    return postgres::wal_segment_name(1, segment, kSegmentBytes);
  }
  postgres::WalInput input(std::uint64_t ahead_until) {
    return archive_input(store_,
                         {.system_identifier = kInputSystem,
                          .wal_segment_bytes = kSegmentBytes,
                          .path = postgres::TimelinePath(1, {})},
                         stop_, postgres::Lsn{ahead_until * kSegmentBytes});
  }
  /// All of a segment, page by page; absent when it is not there.
  static std::optional<Bytes> whole(const postgres::WalInput& input, std::uint64_t segment) {
    Bytes content(kSegmentBytes);
    for (std::uint64_t at = 0; at < kSegmentBytes; at += 8192) {
      if (!input(segment, at, MutableByteView(content).subspan(at, 8192))) return std::nullopt;
    }
    return content;
  }
  void expect_segment(const postgres::WalInput& input, std::uint64_t segment) {
    const auto content = whole(input, segment);
    ASSERT_TRUE(content) << segment;
    EXPECT_TRUE(*content == contents_[segment - kFirst]) << segment;
  }

  storage::FaultStore store_{std::make_unique<storage::MemoryStore>()};
  std::vector<Bytes> contents_;
  StopSource source_;
  const Stop stop_ = source_.stop();
};

TEST_F(WalArchiveInputTest, GivesTheSameWithAndWithoutFetchingAhead) {
  for (const std::uint64_t ahead_until : {std::uint64_t{0}, kFirst + 6, kFirst + kCount + 9}) {
    const auto wal = input(ahead_until);
    for (std::uint64_t segment = kFirst; segment < kFirst + kCount; ++segment) {
      expect_segment(wal, segment);
    }
    // And in whatever order, with what is fetched ahead in vain.
    for (const std::uint64_t segment :
         {20U, 21U, 22U, 17U, 18U, 18U, 19U, 29U, 16U, 17U, 25U, 24U}) {
      expect_segment(wal, segment);
    }
  }
}

TEST_F(WalArchiveInputTest, FetchesNothingAheadOfASingleSegmentOrBehindTheEnd) {
  const auto calls = [this] { return store_.calls(storage::StoreCall::Get); };
  const auto before = calls();
  expect_segment(input(0), kFirst);
  const auto of_one = calls() - before;
  expect_segment(input(kFirst + kCount), kFirst + 5);
  EXPECT_EQ(calls(), before + 2 * of_one);
  {
    // Whatever its threads were asked for is done, or given up, when it is gone.
    const auto wal = input(kFirst + 3);
    for (std::uint64_t segment = kFirst; segment < kFirst + 3; ++segment) {
      expect_segment(wal, segment);
    }
  }
  EXPECT_EQ(calls(), before + 5 * of_one);
}

TEST_F(WalArchiveInputTest, TellsTheErrorOfASegmentWithItsNameWhenItIsAskedFor) {
  store_.add({.call = storage::StoreCall::Get,
              .kind = storage::FaultKind::Fail,
              .key_pattern = fmt::format("*{}*", name(kFirst + 4)),
              .nth = 1,
              .times = 1,
              .error = Error(sqlstate::kIoError, "the storage is away")});
  const auto wal = input(kFirst + kCount);
  for (std::uint64_t segment = kFirst; segment < kFirst + 4; ++segment)
    expect_segment(wal, segment);
  try {
    whole(wal, kFirst + 4);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr(name(kFirst + 4)));
    EXPECT_THAT(error.message(), HasSubstr("the storage is away"));
  }
  // Another try, when the storage is back.
  expect_segment(wal, kFirst + 4);
  expect_segment(wal, kFirst + 5);
}

TEST_F(WalArchiveInputTest, DamageIsFoundInWhatIsFetchedAhead) {
  store_.add({.call = storage::StoreCall::Get,
              .kind = storage::FaultKind::Flip,
              .key_pattern = fmt::format("*{}*", name(kFirst + 3)),
              .times = 1000,
              .position = 40});
  const auto wal = input(kFirst + kCount);
  for (std::uint64_t segment = kFirst; segment < kFirst + 3; ++segment)
    expect_segment(wal, segment);
  try {
    whole(wal, kFirst + 3);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
    EXPECT_THAT(error.message(), HasSubstr(name(kFirst + 3)));
  }
}

TEST_F(WalArchiveInputTest, WhatIsNotThereIsNotThereAndMayCome) {
  remove_wal_segment(store_, id(kFirst + 3), stop_);
  const auto wal = input(kFirst + kCount);
  for (std::uint64_t segment = kFirst; segment < kFirst + 3; ++segment)
    expect_segment(wal, segment);
  EXPECT_FALSE(whole(wal, kFirst + 3));
  const auto read = [&](std::uint64_t offset, MutableByteView into) {
    std::copy_n(contents_[3].begin() + static_cast<std::ptrdiff_t>(offset), into.size(),
                into.begin());
  };
  put_wal_segment(store_, id(kFirst + 3), read, Compression{}, stop_);
  expect_segment(wal, kFirst + 3);
  expect_segment(wal, kFirst + 4);
}

TEST_F(WalArchiveInputTest, StopsWhileAThreadWaitsForTheStorage) {
  const auto wal = input(kFirst + kCount);
  expect_segment(wal, kFirst);
  store_.add({.call = storage::StoreCall::Get,
              .kind = storage::FaultKind::Stall,
              .key_pattern = fmt::format("*{}*", name(kFirst + 1)),
              .times = 1000});
  source_.request(StopReason::Cancel);
  EXPECT_THROW(whole(wal, kFirst + 1), Stopped);
}

}  // namespace
}  // namespace holdfast::collection
