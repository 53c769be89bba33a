#pragma once

#include <cstdint>
#include <exception>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "postgres/lsn.h"
#include "postgres/wal_scope.h"

namespace holdfast::postgres {

/// A piece of WAL that is replayed.
struct WalExtent {
  int major = 0;
  std::uint64_t wal_segment_bytes = 0;
  /// Where a record starts: the redo point of the checkpoint that recovery begins at.
  Lsn start{};
  /// Where a record ends: the last one that counts. Up to there all must be valid; what comes
  /// behind is not looked at, for nothing will replay it.
  Lsn end{};
};

/// What one segment of an extent has for a scope. Offsets are bytes from the segment's start.
struct WalSegmentContent {
  struct Record {
    std::uint32_t offset = 0;
    std::uint32_t total = 0;  ///< xl_tot_len
    bool movable = false;     ///< see can_move()
  };

  Lsn start{};     ///< of the segment
  ByteView bytes;  ///< all of it, the caller's

  /// How many bytes of the record before, which began in another segment, are here and behind.
  std::uint32_t tail = 0;
  /// A crash lost the rest of that record; what is here was written in its place.
  bool lost = false;

  /// Where the first record begins here, whole or not; zero: none does.
  Lsn first{};
  Lsn first_link{};          ///< what the first whole one gives as the one before it
  bool first_skips = false;  ///< a lost record lies between these two
  Lsn last{};                ///< where the last whole one begins; zero: none is whole

  /// The whole ones that recovery of the scope needs, ascending.
  std::vector<Record> kept;
  /// The extent's last record is whole here, and the last one in `kept`, needed or not.
  bool has_last = false;
  /// The last one in `kept` may not become an XLOG_NOOP: recovery needs it, or it is an
  /// XLOG_SWITCH, which takes recovery to the end of the segment, where the extent's end may be.
  bool last_stays = false;

  /// Where a record begins that goes on in the next segment; zero: none does.
  std::uint32_t crossing = 0;
  std::uint32_t crossing_total = 0;
  bool crossing_skips = false;  ///< a lost record lies before it

  std::uint64_t records = 0;     ///< whole ones
  std::uint64_t replaced = 0;    ///< of them, those that are not in `kept`
  std::uint32_t newest_xid = 0;  ///< of those; zero: none has one

  /// Pages from which on another timeline is written, in order; the segment's first page is one.
  std::vector<std::pair<Lsn, TimelineId>> timelines;
  std::uint64_t system_identifier = 0;
  /// Why no record was found, where that is an error only if the record before, of which the
  /// segment has little, did not leave the rest of the segment unused (XLOG_SWITCH).
  std::exception_ptr failure;
};

/// Reads a segment of the extent; `start` is its first byte. Segments may be examined in any order,
/// on any threads. `bytes` is kept as a view. Throws kDataCorrupted when the WAL is not valid.
WalSegmentContent examine_wal_segment(const WalExtent& extent, const WalScope& scope, Lsn start,
                                      ByteView bytes);

/// The later of two transaction IDs, which wrap around; zero is before all.
/// Source: PostgreSQL src/backend/access/transam/transam.c (TransactionIdFollows).
std::uint32_t newer_transaction(std::uint32_t a, std::uint32_t b);

}  // namespace holdfast::postgres
