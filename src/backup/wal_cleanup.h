#pragma once

#include <string_view>

#include "backup_job.pb.h"
#include "base/stop.h"
#include "collection/wal_archive.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// Remembers one more segment that the job puts into the archive.
void add_wal(proto::BackupJobCheckpoint& checkpoint, const collection::WalSegmentId& segment);

/// Removes from the archive what `checkpoint` lists, but for segments that a finished backup of the
/// collection needs, and for those of a WAL archive. Leaves everything while another unfinished
/// backup is there, because it may count on what it found in the archive. `subdirectory` is this
/// job's own. Safe to repeat.
void remove_unneeded_wal(storage::ObjectStore& store, std::string_view subdirectory,
                         const proto::BackupJobCheckpoint& checkpoint, const Stop& stop);

}  // namespace holdfast::backup
