#pragma once

#include <cstdint>

#include "postgres/lsn.h"
#include "postgres/wal_format_internal.h"

namespace holdfast::postgres {

/// Counts WAL by the bytes that records can take, without the headers of pages: two records that
/// follow one another do so in these numbers, too.
/// Source: PostgreSQL src/backend/access/transam/xlog.c (XLogRecPtrToBytePos).
class WalBytePositions {
 public:
  explicit constexpr WalBytePositions(std::uint64_t wal_segment_bytes)
      : segment_bytes_(wal_segment_bytes),
        in_segment_(wal_segment_bytes / kWalPageBytes * kInPage -
                    (kLongHeaderBytes - kShortHeaderBytes)) {}

  /// A position in a page's header counts as the one behind it.
  constexpr std::uint64_t of(Lsn lsn) const {
    const std::uint64_t offset = lsn.value % segment_bytes_;
    const std::uint64_t page = offset / kWalPageBytes;
    const std::uint64_t header = page == 0 ? kLongHeaderBytes : kShortHeaderBytes;
    const std::uint64_t before =
        page == 0 ? 0 : page * kInPage - (kLongHeaderBytes - kShortHeaderBytes);
    const std::uint64_t in_page = offset % kWalPageBytes;
    return lsn.value / segment_bytes_ * in_segment_ + before +
           (in_page > header ? in_page - header : 0);
  }
  /// How many a segment has.
  constexpr std::uint64_t in_segment() const { return in_segment_; }
  /// The segment in which this one lies.
  constexpr std::uint64_t segment_of(std::uint64_t position) const {
    return position / in_segment_;
  }
  constexpr std::uint64_t of_segment(std::uint64_t segment) const { return segment * in_segment_; }

 private:
  static constexpr std::uint64_t kInPage = kWalPageBytes - kShortHeaderBytes;

  std::uint64_t segment_bytes_;
  std::uint64_t in_segment_;
};

}  // namespace holdfast::postgres
