#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "base/clock.h"
#include "base/stop.h"
#include "postgres/wal_reader.h"

namespace holdfast::postgres {

/// Resource managers whose records holdfast looks into.
/// Source: PostgreSQL src/include/access/rmgrlist.h (13-18; the numbers never changed).
namespace rmgr {
inline constexpr std::uint8_t kXlog = 0;
inline constexpr std::uint8_t kXact = 1;
inline constexpr std::uint8_t kSmgr = 2;
inline constexpr std::uint8_t kDatabase = 4;
}  // namespace rmgr

/// The parts of a commit or abort record that matter here.
struct XactRecord {
  bool commit = false;  ///< false: abort
  Time time;
  std::vector<RelationLocator> dropped;  ///< relations whose files go away with it
};
/// Absent when `record` ends no transaction. Throws kDataCorrupted when its content is impossible.
/// Source: PostgreSQL src/backend/access/rmgrdesc/xactdesc.c (ParseCommitRecord).
std::optional<XactRecord> parse_xact_record(const WalRecord& record, int major);

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
