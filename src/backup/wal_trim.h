#pragma once

#include <cstdint>
#include <vector>

#include "base/stop.h"
#include "collection/survey.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// What trim_wal() removed of one cluster's WAL.
struct TrimmedWal {
  std::uint64_t system_identifier = 0;
  std::uint64_t objects = 0;
  std::uint64_t bytes = 0;
  std::uint64_t refused = 0;  ///< objects that the storage keeps; not among the above
};

/// Removes from the WAL in a collection what no backup of it needs:
///
/// - where a WAL archive is kept (wal/<system identifier>/ARCHIVE): everything from before the
///   start of the oldest chain of that cluster, on all timelines. Behind it, any moment may be
///   restored to. Where that cluster has no chain, nothing: the archive may wait for its first
///   full. Chains of databases or tables, which have WAL of their own, do not count.
/// - elsewhere: the segments that no manifest names, and block maps from before the oldest chain.
///
/// `survey` is how the collection was found after the deletions. Nothing is removed when it has a
/// chain that cannot be read (and does not say that it keeps WAL of its own), or an unfinished
/// layer (its backup may count on what it found in the archive). It ends early when a layer appears
/// that the survey does not have. Timeline histories stay.
std::vector<TrimmedWal> trim_wal(storage::ObjectStore& store, const collection::Survey& survey,
                                 const Stop& stop);

}  // namespace holdfast::backup
