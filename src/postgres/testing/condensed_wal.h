#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "postgres/lsn.h"
#include "postgres/relation_path.h"
#include "postgres/testing/memory_wal.h"
#include "postgres/testing/segment_size.h"
#include "postgres/testing/wal_builder.h"
#include "postgres/wal_condenser.h"
#include "postgres/wal_filter.h"
#include "postgres/wal_reader.h"

/// What tests of WalCondenser share.
namespace holdfast::postgres::testing {

inline constexpr Lsn kCondensedStart{kSmallSegment * 3};
inline constexpr RelationLocator kInScope{1663, 16384, 20000};
inline constexpr RelationLocator kOutOfScope{1663, 16384, 20001};

inline WalScope scope_of_one() {
  return {.databases = {{16384, {.all = false, .files = {20000}}}}};
}

/// A record as a reader finds it.
struct Found {
  Lsn start;
  Lsn end;
  std::uint8_t resource_manager = 0;
  std::uint8_t info = 0;
  bool has_blocks = false;
  std::uint32_t xid = 0;
  Bytes bytes;

  /// Recovery does nothing for it.
  bool idle() const {
    return resource_manager == 0 && !has_blocks && (info == 0x20 || info == 0x40 || info == 0xD0);
  }
  /// Transactions' ends, clog, multixacts, standby, commit times; but no prepared transaction.
  bool may_move() const {
    if (has_blocks) return false;
    if (resource_manager == 1) return (info & 0x70) != 0x10;
    return resource_manager == 3 || resource_manager == 6 || resource_manager == 8 ||
           resource_manager == 18;
  }
  /// Without its link to the record before, and the checksum.
  Bytes content() const {
    Bytes all = bytes;
    std::fill_n(all.begin() + 8, 8, std::byte{0});
    std::fill_n(all.begin() + 20, 4, std::byte{0});
    return all;
  }
};

/// Those of the extent. The reader checks pages, links and checksums.
inline std::vector<Found> read_extent(const WalExtent& extent, const Bytes& wal, Lsn begin) {
  WalReader reader({.major = extent.major,
                    .wal_segment_bytes = extent.wal_segment_bytes,
                    .start = extent.start,
                    .system_identifier = 0},
                   memory_input(wal, begin, extent.wal_segment_bytes));
  std::vector<Found> records;
  while (records.empty() || records.back().end < extent.end) {
    const WalRecord* record = reader.next();
    if (record == nullptr) {
      ADD_FAILURE() << reader.end_reason() << "; " << records.size() << " records before";
      break;
    }
    records.push_back({record->start,
                       record->end,
                       record->resource_manager,
                       record->info,
                       !record->blocks.empty(),
                       record->xid,
                       {record->bytes.begin(), record->bytes.end()}});
  }
  return records;
}

struct Condensed {
  Bytes wal;  ///< what was not written is filled with something that nobody can read
  std::uint64_t written = 0;
  Lsn last_record{};
};

inline Condensed condense(const WalExtent& extent, const WalScope& scope, const Bytes& wal,
                          Lsn begin) {
  Condensed result{.wal = Bytes(wal.size(), std::byte{0xEE})};
  Lsn next{};
  WalCondenser condenser(extent, scope, [&](Lsn position, ByteView pages) {
    EXPECT_GE(position, next);
    EXPECT_EQ(pages.size() % kWalPageBytes, 0U);
    next = Lsn{position.value + pages.size()};
    std::ranges::copy(
        pages, result.wal.begin() + static_cast<std::ptrdiff_t>(position.value - begin.value));
    result.written += pages.size();
  });
  const std::uint64_t bytes = extent.wal_segment_bytes;
  std::vector<WalSegmentContent> segments;
  for (std::uint64_t at = 0; at < wal.size(); at += bytes) {
    segments.push_back(examine_wal_segment(extent, scope, Lsn{begin.value + at},
                                           ByteView(wal).subspan(at, bytes)));
  }
  for (const auto& segment : segments) condenser.add(segment);
  condenser.finish();
  result.last_record = condenser.last_record();
  return result;
}

/// What the simple filter, which changes no record's place or length, leaves of the same WAL.
inline Bytes simply_filtered(const WalExtent& extent, const WalScope& scope, const Bytes& wal) {
  WalFilter filter({.major = extent.major,
                    .wal_segment_bytes = extent.wal_segment_bytes,
                    .start = extent.start,
                    .end = extent.end},
                   scope);
  Bytes out;
  const auto output = [&](Lsn, ByteView pages) {
    out.insert(out.end(), pages.begin(), pages.end());
  };
  filter.push(wal, output);
  filter.finish(output);
  return out;
}

/// Recovery does the same with the condensed WAL as with what the simple filter makes of it.
inline Condensed expect_same_recovery(const WalExtent& extent, const WalScope& scope,
                                      const Bytes& wal, Lsn begin) {
  const Bytes filtered = simply_filtered(extent, scope, wal);
  Condensed condensed = condense(extent, scope, wal, begin);
  const auto before = read_extent(extent, filtered, begin);
  const auto after = read_extent(extent, condensed.wal, begin);
  EXPECT_FALSE(before.empty() || after.empty());
  if (before.empty() || after.empty()) return condensed;
  // The extent begins and ends where it did.
  EXPECT_EQ(after.front().start, before.front().start);
  EXPECT_EQ(after.back().start, before.back().start);
  EXPECT_EQ(condensed.last_record, before.back().start);
  std::uint32_t newest_before = 0;
  std::uint32_t newest_after = 0;
  std::vector<const Found*> wanted;
  for (const Found& record : before) {
    newest_before = std::max(newest_before, record.xid);
    if (!record.idle()) wanted.push_back(&record);
  }
  std::size_t next = 0;
  for (const Found& record : after) {
    newest_after = std::max(newest_after, record.xid);
    if (record.idle()) continue;
    if (next == wanted.size()) {
      ADD_FAILURE() << "one record too many at " << to_string(record.start);
      break;
    }
    const Found& original = *wanted[next++];
    if (record.content() != original.content()) {
      ADD_FAILURE() << to_string(original.start) << " became another at "
                    << to_string(record.start);
      break;
    }
    if (original.may_move()) {
      EXPECT_LE(record.start, original.start);
    } else {
      EXPECT_EQ(record.start, original.start);
    }
  }
  EXPECT_EQ(next, wanted.size());
  EXPECT_EQ(newest_after, newest_before);
  // What lies behind the end, and before the start, is as it was.
  const auto same = [&](std::uint64_t from, std::uint64_t to) {
    return std::equal(wal.begin() + static_cast<std::ptrdiff_t>(from),
                      wal.begin() + static_cast<std::ptrdiff_t>(to),
                      condensed.wal.begin() + static_cast<std::ptrdiff_t>(from));
  };
  EXPECT_TRUE(same(0, extent.start.value - begin.value));
  EXPECT_TRUE(same((extent.end.value + 7) / 8 * 8 - begin.value, wal.size()));
  return condensed;
}

/// WAL of transactions that change what is out of scope, over several segments.
struct ForeignWal {
  explicit ForeignWal(std::uint64_t segments) : builder(15, kCondensedStart, kSmallSegment) {
    extent.start = builder.add({.resource_manager = 0, .main_data = Bytes(88), .xid = 0});
    while (builder.position().value < kCondensedStart.value + segments * kSmallSegment) {
      builder.add({.resource_manager = 10, .blocks = {{kOutOfScope, 1, 4000}}, .xid = ++xid});
      builder.add({.resource_manager = 1, .main_data = Bytes(8), .xid = xid});
    }
  }
  void end(const WalBuilder::Record& record) {
    builder.add(record);
    extent.end = builder.position();
  }

  WalBuilder builder;
  WalExtent extent{.major = 15, .wal_segment_bytes = kSmallSegment, .start = {}, .end = {}};
  std::uint32_t xid = 700;
};

}  // namespace holdfast::postgres::testing
