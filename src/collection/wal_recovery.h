#pragma once

#include <string>

#include "base/stop.h"
#include "collection/wal_archive.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// What recovery gets of a segment: the whole one, or, where the archive ends, the beginning that
/// it has, filled up with zeros. Written to a file at `path`, as get_wal_segment_file() does.
///
/// False when the archive ends before the segment. Throws kUndefinedFile when it lacks the segment
/// but has WAL after it on this timeline: recovery must not take a gap for the end of WAL.
///
/// The archive may grow meanwhile.
bool get_wal_for_recovery(storage::ObjectStore& store, const WalSegmentId& id,
                          const std::string& path, const Stop& stop);

}  // namespace holdfast::collection
