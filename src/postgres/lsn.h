#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::postgres {

/// A byte position in the write-ahead log. Zero is never a valid position.
/// Printed the way PostgreSQL prints it: "16/B374D848".
/// Source: PostgreSQL src/include/access/xlogdefs.h (XLogRecPtr).
struct Lsn {
  std::uint64_t value = 0;

  constexpr bool valid() const { return value != 0; }
  friend constexpr auto operator<=>(Lsn, Lsn) = default;
};

std::string to_string(Lsn lsn);
/// Absent unless `text` is two hexadecimal numbers of at most eight digits with a slash between.
std::optional<Lsn> parse_lsn(std::string_view text);

/// Of a page of WAL: every build of PostgreSQL that is packaged has it.
/// Source: PostgreSQL src/include/pg_config.h (XLOG_BLCKSZ).
inline constexpr std::uint64_t kWalPageBytes = 8192;

/// Counts the times that a cluster's history forked; the first timeline is 1, 0 is none.
using TimelineId = std::uint32_t;

/// Number of the WAL segment that holds the byte at `lsn`.
constexpr std::uint64_t segment_of(Lsn lsn, std::uint64_t wal_segment_bytes) {
  return lsn.value / wal_segment_bytes;
}
/// First byte of a WAL segment.
constexpr Lsn segment_start(std::uint64_t segment, std::uint64_t wal_segment_bytes) {
  return Lsn{segment * wal_segment_bytes};
}

/// A power of two from 1 MiB to 1 GiB.
/// Source: PostgreSQL src/include/access/xlog_internal.h (IsValidWalSegSize).
constexpr bool valid_wal_segment_bytes(std::uint64_t bytes) {
  return bytes >= (1ULL << 20) && bytes <= (1ULL << 30) && (bytes & (bytes - 1)) == 0;
}

struct WalSegment {
  TimelineId timeline = 0;
  std::uint64_t segment = 0;
  friend constexpr auto operator<=>(WalSegment, WalSegment) = default;
};

/// "000000010000000A000000FE": eight hexadecimal digits each of timeline, high and low part.
/// Source: PostgreSQL src/include/access/xlog_internal.h (XLogFileName).
std::string wal_segment_name(TimelineId timeline, std::uint64_t segment,
                             std::uint64_t wal_segment_bytes);
/// Absent for anything else, also for a low part that a segment of this size cannot have.
std::optional<WalSegment> parse_wal_segment_name(std::string_view name,
                                                 std::uint64_t wal_segment_bytes);

/// "00000002.history"
std::string timeline_history_name(TimelineId timeline);
std::optional<TimelineId> parse_timeline_history_name(std::string_view name);

/// One line of a history file: `timeline` was followed until `switch_point`.
struct TimelineSwitch {
  TimelineId timeline = 0;
  Lsn switch_point;
  std::string reason;
};
/// The ancestors that a history file lists, oldest first. Throws kDataCorrupted naming `file_name`.
std::vector<TimelineSwitch> parse_timeline_history(std::string_view text,
                                                   std::string_view file_name);

}  // namespace holdfast::postgres
