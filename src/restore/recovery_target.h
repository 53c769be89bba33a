#pragma once

#include <string>
#include <vector>

#include "base/stop.h"
#include "collection/recovery_target.h"
#include "manifest.pb.h"
#include "postgres/lsn.h"
#include "postgres/tablespace_creation.h"
#include "restore/layout.h"
#include "restore/replayed_tablespaces.h"
#include "restore_job.pb.h"
#include "storage/object_store.h"

namespace holdfast::restore {

/// What replaying WAL behind a layer, up to a target, needs beyond the layer itself.

/// Notes in a job's specification how far WAL is replayed.
void set_target(const collection::RecoveryTarget& target, proto::RestoreJobSpec& spec);
/// A layer that ends at a target of its own is restored to that when no other is asked for: its
/// files alone are consistent earlier, and that would be another state.
void adopt_target(const collection::proto::Manifest& layer, proto::RestoreJobSpec& spec);

/// Adds to the layer's WAL what the archive has of it up to the target, each segment from its
/// timeline on the way there. The last one may be a beginning only. Where the target names a layer
/// whose history leads there, that is taken instead. Throws kUndefinedFile when the target's
/// timeline is not known, or that layer is gone.
void add_wal_up_to(const proto::RecoveryTarget& target, storage::ObjectStore& store,
                   collection::proto::Manifest& layer, const Stop& stop);

/// What check_wal() has read.
struct CheckedWal {
  postgres::WalFiles files;
  std::vector<ReplayedTablespace> tablespaces;  ///< as replay comes to them
};
/// Reads the WAL that was laid out in pg_wal from the layer's start to the target, or to the
/// layer's own end where there is none, before any server does. Throws kDataCorrupted when records
/// do not lead there. The tablespaces are for the caller to settle (replayed_tablespaces.h).
CheckedWal check_wal(const proto::RecoveryTarget* target, const collection::proto::Manifest& layer,
                     const Layout& layout, storage::ObjectStore& store, const Stop& stop);

/// The tablespaces that the same WAL makes, read from the archive before anything is laid out.
std::vector<ReplayedTablespace> read_tablespaces(const proto::RecoveryTarget* target,
                                                 const collection::proto::Manifest& layer,
                                                 storage::ObjectStore& store, const Stop& stop);

/// Throws kDataCorrupted unless `last`, where the last record before the target's end begins, is
/// where the target's does: recovery would stop before another one, or behind it.
void require_last_record(const proto::RecoveryTarget& target, postgres::Lsn last);

/// Throws kDataCorrupted unless the server on `data_directory`, which has ended its recovery, began
/// its new timeline at the target's end.
void require_recovered_to(const proto::RecoveryTarget& target, const std::string& data_directory);

}  // namespace holdfast::restore
