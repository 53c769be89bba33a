#pragma once

#include "backup/backup_job.h"
#include "backup_job.pb.h"
#include "jobs/job.h"

namespace holdfast::backup {

/// One attempt at the incremental layer that ends at `spec.as_of()`, a moment of the past behind
/// the last layer. It holds no data of its own: it has the files of the layer before it, with that
/// one's start and backup_label, and all WAL from there to the moment. So its manifest is all that
/// is stored, once the archive has that WAL in whole segments: for the last one the server is asked
/// to begin a new one. Before the manifest is written the WAL is checked to be there without a gap,
/// and to lead to the moment.
///
/// Throws kObjectNotInPrerequisiteState when it cannot be had (any more), kUndefinedFile when
/// something of it is gone, Stopped. May be called again after that; BackupJob::revert() removes
/// what it left.
///
/// Pause points: backup.after_lock, backup.after_wal, backup.before_manifest,
/// backup.after_manifest.
void take_wal_layer(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                    jobs::JobContext& job);

}  // namespace holdfast::backup
