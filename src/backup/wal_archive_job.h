#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "backup/backup_job.h"
#include "backup/wal_archive_board.h"
#include "base/clock.h"
#include "jobs/job.h"
#include "state/database.h"

namespace holdfast::backup {

/// What archiving WAL needs to know of the daemon that it runs in.
struct WalArchiveEnvironment {
  StoreOpener* stores = nullptr;  ///< outlives the job
  /// As in BackupEnvironment.
  std::function<std::string()> conninfo;
  std::filesystem::path data_directory;
  state::Database* database = nullptr;  ///< remembers raised modes; outlives the job
  WalArchiveBoard* board = nullptr;     ///< outlives the job
  /// At most this much committed work is missing on storage while all goes well.
  std::chrono::milliseconds flush_interval{1000};
  /// So often the archive says up to when it has everything (collection::WalTimeMark).
  std::chrono::milliseconds mark_interval{60'000};
  /// The most WAL that PostgreSQL keeps for an archive that does not advance; 0: no bound.
  std::uint64_t keep_limit = 0;
  /// So long it may be more while the storage takes what it is given: a burst is caught up with.
  std::chrono::milliseconds over_limit{30'000};
  const Clock* clock = &Clock::system();
};

/// The mode that an archive's slot was raised to, or `first` when it never was.
WalArchiveMode archive_mode(state::Database& database, const std::string& slot,
                            WalArchiveMode first);
void raise_archive_mode(state::Database& database, const std::string& slot);

/// Keeps the WAL archive of one collection current; runs until it is cancelled. The job's
/// specification is a WalArchiveJobSpec, its checkpoint a WalArchiveCheckpoint.
///
/// Order, so that a crash at any moment leaves no gap: objects, then the checkpoint, then the slot.
/// What was archived after the checkpoint is archived again, which changes nothing.
///
/// While PostgreSQL or the storage is away, or refuses, it waits and tries again, for as long as it
/// takes. It gives up, with what is lost and what to do in its error, when WAL is gone, when the
/// server is another one or was set back, or when PostgreSQL would have to keep more than
/// keep_limit for it. Giving up, as a cancel, drops the slot: nothing fills the user's disk
/// silently.
///
/// Pause points: archive.after_connect, archive.after_put (once per batch),
/// archive.after_checkpoint, archive.after_advance, archive.after_tail.
class WalArchiveJob final : public jobs::JobBody {
 public:
  explicit WalArchiveJob(WalArchiveEnvironment environment);

  void resume(jobs::JobContext& job) override;
  /// Drops the slot; what is in the collection stays. Needs PostgreSQL.
  void revert(jobs::JobContext& job) override;

 private:
  WalArchiveEnvironment environment_;
};

}  // namespace holdfast::backup
