#pragma once

#include <chrono>
#include <vector>

#include "backup/backup_job.h"
#include "jobs/job.h"
#include "jobs/registry.h"
#include "retention_job.pb.h"
#include "storage/object_store.h"

namespace holdfast::retention {

/// What deleting backups needs to know of the daemon that it runs in. Everything outlives the job.
struct RetentionEnvironment {
  backup::StoreOpener* stores = nullptr;
  const jobs::Registry* registry = nullptr;
  /// For this long a job that this daemon does not know is taken to be at work (its lock counts),
  /// and what an unfinished backup left is not taken to be left behind.
  std::chrono::hours young{72};
};

/// The values of RetentionRow::action.
inline constexpr const char* kDeleted = "deleted";
inline constexpr const char* kKept = "kept";
inline constexpr const char* kNotYet =
    "not yet";  ///< the storage refuses; the next job tries again
inline constexpr const char* kWouldBeDeleted = "would be deleted";

/// What a job would do now, as its rows; changes nothing. (The WAL that it would remove is not
/// among them.)
std::vector<proto::RetentionRow> dry_run(const RetentionEnvironment& environment,
                                         storage::ObjectStore& store,
                                         const proto::RetentionJobSpec& spec, const Stop& stop);

/// Deletes chains whose time is over, what unfinished backups have left behind, and the WAL that
/// nothing needs then. The specification is a RetentionJobSpec, the checkpoint a
/// RetentionCheckpoint, which has the result's rows.
///
/// A crash at any moment leaves a collection in which everything that is listed can be restored:
/// the newest layer's manifest goes first, the full's last, then the data. README.md of this
/// directory says how backups and restores that begin meanwhile are kept apart.
///
/// Pause points: retention.after_lock, retention.after_decision, retention.after_checkpoint,
/// retention.after_mark, retention.after_latest, retention.manifest (once per layer),
/// retention.after_manifests, retention.after_data, retention.after_chain, retention.after_sweep,
/// retention.after_trim.
class RetentionJob final : public jobs::JobBody {
 public:
  explicit RetentionJob(RetentionEnvironment environment) : environment_(environment) {}

  void resume(jobs::JobContext& job) override;
  /// A chain whose full is still there is kept as far as it is there. What is deleted stays
  /// deleted.
  void revert(jobs::JobContext& job) override;

 private:
  const RetentionEnvironment environment_;
};

}  // namespace holdfast::retention
