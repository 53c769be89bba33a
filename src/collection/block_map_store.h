#pragma once

#include <optional>

#include "base/stop.h"
#include "collection/block_map.h"
#include "collection/wal_archive.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// "wal/<system identifier>/<8 hex timeline>/<24 hex segment name>.blocks"
storage::ObjectKey block_map_key(const WalSegmentId& id);

/// What the map of one whole segment covers: the records that begin in it.
WalCoverage coverage_of(const WalSegmentId& id);

/// Puts the map of a whole segment beside it. One that is there already stays, and must say the
/// same: otherwise it was made of other WAL (kDuplicateFile).
void put_block_map(storage::ObjectStore& store, const WalSegmentId& id, const BlockMap& map,
                   const Stop& stop);

/// Absent when there is none. Throws kDataCorrupted naming the object, also for the map of another
/// segment; kFeatureNotSupported for a newer version.
std::optional<BlockMap> get_block_map(storage::ObjectStore& store, const WalSegmentId& id,
                                      const Stop& stop);

}  // namespace holdfast::collection
