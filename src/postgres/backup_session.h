#pragma once

#include <string>

#include "base/stop.h"
#include "postgres/connection.h"
#include "postgres/lsn.h"

namespace holdfast::postgres {

struct BackupSessionOptions {
  std::string label = "holdfast";
  /// Ask for an immediate checkpoint. False: wait for a spread one (checkpoint_completion_target).
  bool fast_checkpoint = true;
};

struct BackupStopped {
  Lsn stop;
  TimelineId timeline = 0;     ///< START TIMELINE of the backup label
  std::string backup_label;    ///< file content
  std::string tablespace_map;  ///< file content; empty without tablespaces
};

/// One non-exclusive backup, which lives as long as its connection: when the session ends without
/// finish(), the server forgets the backup.
///
/// From a standby: the server takes its last restartpoint as start, and recovery of the backup ends
/// at the minimum recovery point of the copied control file. So on a standby global/pg_control must
/// be copied last, after every other file and before finish(), as pg_basebackup does; a copy from
/// the start would let recovery end before the pages are consistent.
/// Source: PostgreSQL src/backend/access/transam/xlog.c (do_pg_backup_start, do_pg_backup_stop),
/// doc/src/sgml/backup.sgml.
class BackupSession {
 public:
  /// Starts a backup; waits for its checkpoint. Throws Error, Stopped (nothing remains then).
  static BackupSession start(Connection connection, const BackupSessionOptions& options,
                             const Stop& stop);

  BackupSession(BackupSession&&) noexcept = default;
  BackupSession& operator=(BackupSession&&) noexcept = default;

  /// Where replay of this backup starts (a redo point), and on which timeline.
  Lsn start_lsn() const { return start_; }
  TimelineId timeline() const { return timeline_; }
  bool from_standby() const { return from_standby_; }

  /// Ends the backup without waiting for WAL archiving: the caller receives the WAL itself. On a
  /// primary the server switches to a new WAL segment after the stop LSN. Throws
  /// kObjectNotInPrerequisiteState when the standby was promoted meanwhile, and the server's own
  /// errors (such as WAL generated with full_page_writes off).
  BackupStopped finish(const Stop& stop);

  /// The session's connection, for queries while the backup runs.
  Connection& connection() { return connection_; }

 private:
  explicit BackupSession(Connection connection) : connection_(std::move(connection)) {}

  Connection connection_;
  Lsn start_;
  TimelineId timeline_ = 0;
  bool from_standby_ = false;
};

/// The lines of a backup_label that matter. Throws kDataCorrupted.
struct BackupLabel {
  Lsn start;
  Lsn checkpoint;
  TimelineId timeline = 0;
  bool from_standby = false;
};
BackupLabel parse_backup_label(const std::string& text);

}  // namespace holdfast::postgres
