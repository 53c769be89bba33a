#include "backup/copied_databases.h"

#include <gtest/gtest.h>

#include "postgres/testing/memory_wal.h"
#include "postgres/testing/segment_size.h"
#include "postgres/testing/wal_builder.h"

namespace holdfast::backup {
namespace {

using postgres::Lsn;
using postgres::testing::kSmallSegment;
using postgres::testing::WalBuilder;

constexpr std::uint32_t kTablespace = postgres::kDefaultTablespace;
constexpr std::uint32_t kElsewhere = 16384;

class CopiedDatabases : public ::testing::Test {
 protected:
  static Bytes fields(std::initializer_list<std::uint32_t> values) {
    Bytes bytes(values.size() * 4);
    std::size_t at = 0;
    for (const std::uint32_t value : values) store<std::uint32_t>(bytes, 4 * at++, value);
    return bytes;
  }
  Lsn copy(std::uint32_t target, std::uint32_t into, std::uint32_t source, std::uint32_t from) {
    return wal_.add({.resource_manager = postgres::rmgr::kDatabase,
                     .main_data = fields({target, into, source, from})});
  }
  Lsn drop(std::uint32_t database, std::uint32_t from) {
    return wal_.add({.resource_manager = postgres::rmgr::kDatabase,
                     .info = 0x20,
                     .main_data = fields({database, 1, from})});
  }
  Lsn change(std::uint32_t database) {
    return wal_.add({.resource_manager = 10,  // heap
                     .blocks = {{.relation = {kTablespace, database, 1259}, .data_bytes = 8}}});
  }

  /// The OID of the target that replay would make wrongly; 0: none.
  std::uint32_t unsound(Lsn until = Lsn{~0ULL}) {
    const Lsn end = std::min(until, wal_.position());
    const auto found = find_unsound_copy(
        {.reader = {.major = 15,
                    .wal_segment_bytes = kSmallSegment,
                    .start = Lsn{kSmallSegment + 40}},
         .end = end},
        input(), [&](const auto&) { return has_all_; },
        [&](std::uint32_t database) { return database != unwanted_; }, Stop::never());
    return found ? found->target.database : 0;
  }
  postgres::WalInput input() {
    bytes_ = wal_.whole_segments();
    return [this](std::uint64_t segment, std::uint64_t offset, MutableByteView out) -> std::size_t {
      const std::uint64_t at = (segment - 1) * kSmallSegment + offset;
      if (segment == 0 || at >= bytes_.size()) return 0;
      const std::size_t bytes = std::min<std::size_t>(out.size(), bytes_.size() - at);
      std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(at), bytes, out.begin());
      return bytes;
    };
  }

  WalBuilder wal_{15, Lsn{kSmallSegment}, kSmallSegment};
  Bytes bytes_;
  bool has_all_ = true;
  std::uint32_t unwanted_ = 0;
};

TEST_F(CopiedDatabases, ASourceThatStaysAsItWasIsSound) {
  change(5);
  copy(100, kTablespace, 5, kTablespace);
  change(6);
  change(100);
  EXPECT_EQ(unsound(), 0U);
}

TEST_F(CopiedDatabases, ASourceThatChangesBeforeItIsReadIsNot) {
  copy(100, kTablespace, 5, kTablespace);
  const Lsn later = change(5);
  EXPECT_EQ(unsound(), 100U);
  // All had been read by then.
  EXPECT_EQ(unsound(later), 0U);
}

TEST_F(CopiedDatabases, HintBitsAreNoChange) {
  copy(100, kTablespace, 5, kTablespace);
  wal_.add({.resource_manager = postgres::rmgr::kXlog,
            .info = 0xA0,
            .blocks = {{.relation = {kTablespace, 5, 1259}, .data_bytes = 8}}});
  EXPECT_EQ(unsound(), 0U);
}

TEST_F(CopiedDatabases, AMoveIsSoundWhenTheOldPlaceWasRead) {
  copy(5, kElsewhere, 5, kTablespace);
  drop(5, kTablespace);
  EXPECT_EQ(unsound(), 0U);
  has_all_ = false;
  EXPECT_EQ(unsound(), 5U);
}

TEST_F(CopiedDatabases, WhatTheBackupDoesNotHoldIsNoMatter) {
  copy(100, kTablespace, 5, kTablespace);
  change(5);
  EXPECT_EQ(unsound(), 100U);
  unwanted_ = 100;
  EXPECT_EQ(unsound(), 0U);
}

TEST_F(CopiedDatabases, CopiesOfCopiesAreWatched) {
  copy(100, kTablespace, 5, kTablespace);
  copy(101, kTablespace, 100, kTablespace);
  change(100);
  EXPECT_EQ(unsound(), 101U);
}

}  // namespace
}  // namespace holdfast::backup
