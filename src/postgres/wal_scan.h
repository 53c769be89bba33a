#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>

#include "base/clock.h"
#include "base/stop.h"
#include "postgres/wal_changes.h"
#include "postgres/wal_reader.h"

namespace holdfast::postgres {

/// The WAL between two positions.
struct WalRange {
  WalReaderOptions reader{};  ///< reader.start: where it begins
  Lsn end{};                  ///< records that begin at or after it are not looked at
};

/// Calls `visit` for each record that begins before range.end, in order. Throws kDataCorrupted when
/// the WAL is invalid or missing before that, Stopped.
void scan_wal(const WalRange& range, const WalInput& input,
              const std::function<void(const WalRecord&)>& visit, const Stop& stop);

struct BackupWalSummary {
  /// Of the last commit (of a plain or prepared transaction) in the range; absent without any.
  std::optional<Time> last_commit_time;
  /// Those of the suspects that replay of the range rewrites, removes or truncates away: a page
  /// that was read while PostgreSQL wrote it, not a corrupt one.
  std::set<BlockKey> rewritten;
  std::uint64_t records = 0;
};

/// One pass over a backup's WAL, from its start to its stop LSN.
BackupWalSummary summarize_backup_wal(const WalRange& range, const WalInput& input,
                                      const std::set<BlockKey>& suspects, const Stop& stop);

}  // namespace holdfast::postgres
