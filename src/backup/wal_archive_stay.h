#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "backup/wal_archive_holds.h"
#include "backup/wal_archive_job.h"
#include "backup/wal_archiver.h"
#include "backup/wal_time_marker.h"
#include "base/bytes.h"
#include "postgres/connection.h"
#include "postgres/timeline_path.h"
#include "postgres/wal_position.h"
#include "wal_archive_job.pb.h"

namespace holdfast::backup {

/// What a run of a WAL ARCHIVE job remembers from one stay with the server to the next.
struct WalArchiveMemory {
  std::set<postgres::TimelineId> histories;  ///< that were put into the collection
  /// What PostgreSQL kept for the archive when the run began: it came together while nobody was
  /// there to archive it.
  std::optional<std::uint64_t> kept_at_first;
  /// Since when it is more than the limit.
  std::optional<std::chrono::steady_clock::time_point> over_limit_since;
  /// When everything that was written was archived, as far as it is known.
  std::optional<Time> caught_up;
  bool marked = false;  ///< whether the collection says that this archive is kept
};

/// One stay of a WAL ARCHIVE job with the server: from a connection to the next failure, timeline
/// or stop.
class WalArchiveStay {
 public:
  /// Everything that is given outlives the stay.
  WalArchiveStay(const WalArchiveEnvironment& environment, const proto::WalArchiveJobSpec& spec,
                 WalArchiveMemory& memory, jobs::JobContext& job);

  /// Returns when the server went on to another timeline, or a standby receives nothing any more.
  /// Throws ArchiveEnded, and other Errors, after which another stay may succeed: how far the
  /// archive is behind then, and why, stands on the board, and what is kept is within the limit.
  void work();

 private:
  struct Place {
    postgres::TimelineId timeline = 0;
    postgres::Lsn position;
  };

  void follow();
  void ask();
  Place begun();
  void begin();
  void follow_timeline();
  void require_not_behind(postgres::Lsn archived) const;
  void require_archive_there();
  void put_history();
  void require_wal_kept();
  void warn_of_limit();
  bool archive();
  bool put(WalArchiveMode mode);
  void save();
  void advance();
  void touch();
  bool touch_is_due() const;
  void bear_with(const Error& failure);
  void check_limit(std::chrono::milliseconds patience);
  void check_reading(postgres::Lsn flushed, std::uint64_t segment_bytes);
  void report(WalArchiveMode mode, const std::string& waiting_for);
  void report_waiting(const std::string& what);

  WalArchiveMode mode() const;
  postgres::Lsn durable() const;
  postgres::Lsn kept_from() const;
  std::uint64_t kept_for_archive() const;
  const postgres::TimelinePath& path() const { return *path_; }

  const WalArchiveEnvironment& environment_;
  const proto::WalArchiveJobSpec& spec_;
  WalArchiveMemory& memory_;
  jobs::JobContext& job_;
  const Stop& stop_;
  std::filesystem::path wal_directory_;
  WalArchiveHolds holds_;
  postgres::Connection connection_;
  std::optional<postgres::WalPosition> position_;  // as asked_ last; absent when it is not known
  Time asked_;
  std::unique_ptr<storage::ObjectStore> store_;
  std::optional<postgres::TimelinePath> path_;
  Bytes history_;        // the file that path_ was read from; empty on timeline 1
  postgres::Lsn start_;  // where archiving begins
  std::optional<WalArchiver> archiver_;
  WalTimeMarker marker_;
  bool saved_mark_ = false;
  std::chrono::steady_clock::time_point last_tail_{};
  std::chrono::steady_clock::time_point last_touch_{};
  std::chrono::steady_clock::time_point last_progress_ = std::chrono::steady_clock::now();
  postgres::Lsn last_read_;
};

}  // namespace holdfast::backup
