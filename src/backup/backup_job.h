#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "backup_job.pb.h"
#include "base/clock.h"
#include "jobs/job.h"
#include "storage/object_store.h"
#include "storage/store_access.h"

namespace holdfast::backup {

class PastClusters;
class WalArchives;

/// Bounds of WITH workers.
inline constexpr std::uint32_t kMaxWorkers = 64;

/// Opens the store that a collection URI names. The daemon's knows nodelocal directories, external
/// connections and wrappers; tests hand out their own. May be called from any thread.
class StoreOpener {
 public:
  virtual ~StoreOpener() = default;
  /// Throws Error when the URI names no store that can be opened.
  virtual std::unique_ptr<storage::ObjectStore> open_store(
      std::string_view collection_uri, const storage::StoreAccess& access = {}) = 0;
};

/// What a backup needs to know of the daemon that it runs in.
struct BackupEnvironment {
  StoreOpener* stores = nullptr;  ///< outlives the job
  /// libpq connection string or URI of the instance, asked for whenever one is opened. Throws
  /// kCannotConnectNow while the server is down (revert() does not ask).
  std::function<std::string()> conninfo;
  std::filesystem::path data_directory;   ///< of the instance, on this machine
  std::filesystem::path spool_directory;  ///< under --store; each job has "backup-<id>" in it
  std::string node_id;
  std::string locality;  ///< "region=us-east,zone=a"; may be empty
  std::string holdfast_version;
  const Clock* clock = &Clock::system();
  /// Whether the daemon has such a job that has not ended. Null: it has none but this one.
  std::function<bool(jobs::JobId)> has_unfinished_job = nullptr;
  /// Protects the WAL that the next layer will need. Null: nothing is protected.
  WalArchives* archives = nullptr;
  /// For a full of an earlier moment. Null: there are none.
  PastClusters* past = nullptr;
  /// The most WAL that a backup of databases or tables may have in the spool, in bytes; 0: no
  /// bound.
  std::uint64_t wal_keep_limit = 0;
  /// Whether the specification's user still may have this backup: throws kInsufficientPrivilege,
  /// and writes what follows from his rights into it. Asked whenever the job starts. Null: he may.
  std::function<void(proto::BackupJobSpec&, const Stop&)> authorize = nullptr;
};

/// Checks a specification's values: subdirectory, compression, workers. Throws
/// kInvalidParameterValue. For the statement, before it creates the job.
void check_spec(const proto::BackupJobSpec& spec);

/// Where a job receives WAL; removed at the end of each attempt.
std::filesystem::path spool_of(const BackupEnvironment& environment, jobs::JobId id);

/// A full or incremental backup of the whole cluster into one subdirectory of a collection. The
/// job's specification is a BackupJobSpec; rows of the result are the tables' estimated rows.
///
/// resume() may be called again after a pause, a failure or the process's death: the user's rights
/// are looked at again, and packs that were finished before are verified against the data directory
/// and kept. The manifest is written last;
/// until then the backup does not exist for readers.
///
/// Pause points: backup.after_lock, backup.after_checkpoint_read, backup.after_wal_start,
/// backup.after_start, backup.after_plan, backup.after_reuse, backup.copy (once per pack),
/// backup.after_copy, backup.after_catalog, backup.after_control, backup.after_stop,
/// backup.after_history (of databases, where there is one), backup.after_wal, backup.after_verify,
/// backup.before_manifest, backup.after_manifest, backup.after_latest.
class BackupJob final : public jobs::JobBody {
 public:
  explicit BackupJob(BackupEnvironment environment);

  void resume(jobs::JobContext& job) override;
  /// Removes the unfinished layer, the WAL that the archive has from this job alone, and the spool.
  /// Needs no PostgreSQL. A backup whose manifest is written stays, and LATEST is moved to it.
  void revert(jobs::JobContext& job) override;

 private:
  BackupEnvironment environment_;
};

}  // namespace holdfast::backup
