#pragma once

#include <string>

#include "backup/backup_job.h"
#include "backup_job.pb.h"
#include "jobs/job.h"
#include "manifest.pb.h"
#include "postgres/lsn.h"

namespace holdfast::backup {

/// One attempt at the full backup of the cluster as it was at `spec.as_of()`, out of another chain
/// of the collection: that chain is recovered to the moment beside the server, which is not
/// touched, and the stopped copy is backed up as a standby would be. The WAL that a restore replays
/// is the archive's. Before the manifest is written, the copy is recovered once more in the way in
/// which a restore does it, and must end at the moment: there it also tells its catalog.
///
/// Throws kObjectNotInPrerequisiteState when it cannot be had (any more), what PastClusters throw,
/// kDataCorrupted, Stopped. May be called again after that, and begins anew;
/// BackupJob::revert() removes what it left.
///
/// Pause points: backup.after_lock, backup.after_wal, backup.after_recovery, backup.after_plan,
/// backup.copy (once per pack), backup.after_copy, backup.after_catalog, backup.after_verify,
/// backup.before_manifest, backup.after_manifest, backup.after_latest.
void take_synthetic_full(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                         jobs::JobContext& job);

/// The backup_label of a cluster that was shut down in recovery: that of a backup from a standby,
/// so that recovery begins at the last restartpoint, and is consistent where the control file's
/// minimum recovery point says. `layer` has its start and start time.
/// Source: PostgreSQL src/backend/access/transam/xlog.c (do_pg_backup_start), xlogrecovery.c
/// (read_backup_label), versions 13 to 18.
std::string label_of_stopped(const collection::proto::Manifest& layer, postgres::Lsn checkpoint,
                             const std::string& label);

}  // namespace holdfast::backup
