#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>

#include "backup/copy.h"
#include "collection/block_map.h"
#include "manifest.pb.h"
#include "postgres/lsn.h"

namespace holdfast::backup {

/// What an incremental layer knows of the changes since the layer before.
struct KnownChanges {
  /// All WAL from the base's start to this layer's. Absent: pages' LSNs are compared instead.
  std::optional<collection::BlockMap> map;
  /// The base's start.
  postgres::Lsn since;
  /// Without a map: databases that were created, moved or altered since, by their OIDs. Creating
  /// one copies files with the LSNs that their pages had.
  std::set<std::uint32_t> changed_databases{};
};

/// Numbers the files of a plan as the next layer on `base` and decides what is taken of each:
///
///  - main forks of relations that the base has: blocks that changed, blocks beyond the file's
///    former size, and everything from where the fork was truncated on; whole when the file was
///    created anew, or its database copied or moved as files;
///  - every other file that the base has: the frames whose checksum differs from the base's;
///  - files that the base has not: whole.
///
/// Marks frames of which nothing is taken as done. `earlier`: the checkpoint of an earlier attempt
/// at this layer, or null.
void plan_incremental(const collection::proto::Manifest& base, const KnownChanges& changes,
                      const collection::proto::Manifest* earlier, CopyState& state);

}  // namespace holdfast::backup
