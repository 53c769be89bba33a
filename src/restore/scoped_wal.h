#pragma once

#include "base/stop.h"
#include "io/file_system.h"
#include "manifest.pb.h"
#include "postgres/wal_scope.h"
#include "restore/layout.h"
#include "restore_job.pb.h"
#include "storage/object_store.h"

namespace holdfast::restore {

/// Puts the backup's WAL, up to `target` if there is one, into pg_wal, reduced to what recovery of
/// the scope replays (postgres/wal_condenser.h). Segments are fetched and examined by threads of
/// their own, at most 4 and 64 MiB at once, but always one. On top come 12 bytes for each of their
/// records that stays, and the whole of one that goes on from segment to segment, of 1 GiB at most.
/// Throws kUndefinedFile when a segment is missing, kDataCorrupted when the WAL is not valid or its
/// last record is not the target's.
void restore_scoped_wal(const collection::proto::Manifest& manifest,
                        const proto::RecoveryTarget* target, const Layout& layout,
                        const postgres::WalScope& scope, storage::ObjectStore& store,
                        io::FileSystem& files, const Stop& stop);

}  // namespace holdfast::restore
