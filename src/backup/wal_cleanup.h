#pragma once

#include <chrono>
#include <functional>
#include <string_view>

#include "backup_job.pb.h"
#include "base/clock.h"
#include "base/stop.h"
#include "collection/wal_archive.h"
#include "jobs/job.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// Remembers one more segment that the job puts into the archive.
void add_wal(proto::BackupJobCheckpoint& checkpoint, const collection::WalSegmentId& segment);

/// What remove_unneeded_wal() needs to know beside the collection.
struct WalCleanup {
  std::string_view subdirectory;  ///< this job's own layer
  Time now;
  /// Whether this daemon has such a job that has not ended. Null: it has none.
  std::function<bool(jobs::JobId)> has_unfinished_job = nullptr;
};

/// An unfinished layer is left behind, and holds nothing up, when neither its job nor its newest
/// checkpoint is younger than this.
inline constexpr std::chrono::days kAbandonedAfter{7};

/// Removes from the archive what `checkpoint` lists, but for segments that a finished backup of the
/// collection needs, and for those of a WAL archive. Leaves everything while another unfinished
/// backup is there, because it may count on what it found in the archive, and when a layer appears
/// or goes meanwhile; what is not removed yet then stays. Safe to repeat.
void remove_unneeded_wal(storage::ObjectStore& store, const WalCleanup& cleanup,
                         const proto::BackupJobCheckpoint& checkpoint, const Stop& stop);

}  // namespace holdfast::backup
