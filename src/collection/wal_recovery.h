#pragma once

#include <cstdint>
#include <optional>
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

/// Throws kUndefinedFile, with the collection's name, when the archive has no WAL of the server on
/// any timeline. For who was told that the archive lacks something: then it is none at all (storage
/// that is not mounted, a name with a slip in it), not one that ends before.
void require_wal_archive(storage::ObjectStore& store, std::uint64_t system_identifier,
                         const Stop& stop);

/// Hands over the whole segment or, where the archive lacks it, the beginning that it has. How many
/// bytes that were; absent when it has neither. Some may be handed over twice.
std::optional<std::uint64_t> get_wal_or_tail(storage::ObjectStore& store, const WalSegmentId& id,
                                             const WalWriter& write, const Stop& stop);

}  // namespace holdfast::collection
