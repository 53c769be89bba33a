#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/stop.h"
#include "collection/block_map.h"
#include "postgres/timeline_path.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// From which moment to which one changes are wanted, and where WAL may be found.
struct ChangesRequest {
  std::uint64_t system_identifier = 0;
  int major = 0;
  std::uint64_t wal_segment_bytes = 0;
  /// Leads to the timeline of `to`.
  postgres::TimelinePath path;
  postgres::TimelineId from_timeline = 0;
  postgres::Lsn from;  ///< where a record begins, such as a redo point
  postgres::Lsn to;    ///< flushed already
  /// The instance's pg_wal; empty when there is none to look into.
  std::string wal_directory = {};
  /// False: the archive is another key's, and not looked into.
  bool with_archive = true;
};

struct Changes {
  /// Covers [from, to), or more. Absent when that cannot be known.
  std::optional<BlockMap> map;
  /// Why it is absent: "WAL segment … is neither in the archive nor in pg_wal".
  std::string reason;
  /// It is absent because the WAL was written with wal_level = minimal.
  bool wal_minimal = false;
  /// It is absent because the WAL is known to be of two histories of one timeline, as after a
  /// snapshot of the server's disk was put back: its pages cannot be compared with those of a
  /// moment that it has not been at.
  bool other_history = false;
};

/// What the WAL between two moments changes: from the block maps in the collection's archive, and
/// where there is none, from the WAL itself (pg_wal, then the archive). Absent when WAL is missing,
/// when `from` is on no timeline that leads to `to`, when it was written with wal_level = minimal,
/// and when it is of another history than the WAL in pg_wal at `from` and `to`. Throws for objects
/// that are corrupt and for failures of the store, Stopped.
Changes changes_between(storage::ObjectStore& store, const ChangesRequest& request,
                        const Stop& stop);

}  // namespace holdfast::collection
