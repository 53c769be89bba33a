#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/bytes.h"
#include "postgres/lsn.h"
#include "postgres/wal_scope.h"
#include "postgres/wal_segment_content.h"

namespace holdfast::postgres {

/// Makes WAL of an extent that has only what recovery of a scope replays, and is read in a moment:
///
/// - A record that changes pages, files or recovery itself stays where it is, so that pages get
///   the LSNs that they had.
/// - Records that can_move() follow the record before without a gap.
/// - Where nothing more stays in its place before a segment ends, an XLOG_SWITCH leads to the next
///   one: the rest of the segment is neither written nor read. Other gaps are filled with
///   XLOG_NOOP.
///
/// So recovery does the same, in the same order, as with all of the WAL, and ends at the same
/// place: the extent's last record stays where it is, and ends where it did (as an XLOG_NOOP if the
/// scope does without it; an XLOG_SWITCH stays one). It advances the transaction counter as far:
/// what fills a gap carries the newest transaction ID of all that was before. Segments keep their
/// names, pages their timelines.
///
/// Only for a recovery that is not interrupted: a checkpoint's redo point may lie where no record
/// begins, but for the extent's start.
///
/// Sources: PostgreSQL src/backend/access/transam/xlogreader.c (XLogReadRecord, XLOG_SWITCH),
/// xlogrecovery.c (ApplyWalRecord); `docs/formats/wal-scope.md`.
class WalCondenser {
 public:
  /// Takes whole pages, ascending. Those that are left out are never read.
  using Output = std::function<void(Lsn position, ByteView pages)>;

  WalCondenser(const WalExtent& extent, const WalScope& scope, Output output);
  ~WalCondenser();
  WalCondenser(const WalCondenser&) = delete;
  WalCondenser& operator=(const WalCondenser&) = delete;

  /// The next segment, the first being that of the extent's start; its bytes are needed during the
  /// call only. What lies behind the extent's end goes through as it is. Throws kDataCorrupted when
  /// the WAL before the end is not valid.
  void add(const WalSegmentContent& segment);
  /// No more will come. Throws kDataCorrupted when the end was not reached.
  void finish();

  /// After finish(): where the extent's last record begins, in all of the WAL as in what was made.
  Lsn last_record() const;

  /// Whole records so far, and how many of them were left out.
  std::uint64_t records() const;
  std::uint64_t replaced() const;

 private:
  class Work;
  std::unique_ptr<Work> work_;
};

}  // namespace holdfast::postgres
