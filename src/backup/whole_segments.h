#pragma once

#include <string>

#include "backup/backup_job.h"
#include "base/stop.h"
#include "collection/wal_archive.h"
#include "jobs/job.h"
#include "manifest.pb.h"
#include "postgres/connection.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// Layers need whole WAL segments of the archive: what a layer of the past does for that.
struct SegmentWait {
  const BackupEnvironment& environment;
  std::string collection_uri;
  storage::ObjectStore& store;
  postgres::Connection& connection;  ///< to the server that is archived
  jobs::JobContext& job;
};

/// Waits until the archive has the segment whole. When the server writes in it still, it is asked
/// to begin a new one. Throws kObjectNotInPrerequisiteState when the rest will not come, or did not
/// within ten minutes; Stopped.
void wait_for_whole_segment(const SegmentWait& wait, const collection::WalSegmentId& id);

/// Notes the sizes of the segments that the layer lists. Throws kUndefinedFile naming one that the
/// archive lacks.
void find_segments(storage::ObjectStore& store, collection::proto::Manifest& layer,
                   const Stop& stop);

/// For a layer whose segments were all put or found, before its manifest: another backup that was
/// cancelled, or the deletion of backups, may have taken one for unneeded in between. Throws
/// kObjectNotInPrerequisiteState (Retry::Safe: the next attempt puts it again) naming one that is
/// gone.
void require_segments(storage::ObjectStore& store, collection::proto::Manifest& layer,
                      const Stop& stop);

}  // namespace holdfast::backup
