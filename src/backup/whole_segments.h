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

}  // namespace holdfast::backup
