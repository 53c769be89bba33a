#pragma once

#include <cstdint>
#include <string>

#include "base/stop.h"
#include "postgres/timeline_path.h"
#include "postgres/wal_reader.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// Which WAL of an archive is read.
struct ArchivedWal {
  std::uint64_t system_identifier = 0;
  std::uint64_t wal_segment_bytes = 0;
  postgres::TimelinePath path;  ///< each segment is taken from its timeline on it
  /// As in WalSegmentId.
  std::string directory{};
};

/// Serves segments out of the archive, each fetched whole when it is first asked for; one is kept.
/// Where a segment is not there whole, the beginning that the archive has of it (wal_tail.h),
/// its last page filled up with zeros.
/// `store` and `stop` outlive the function and its copies, which share the segment that is kept and
/// are not for several threads at once.
///
/// With `ahead_until`, once segments are asked for one after the other, those that follow, as far
/// as they begin before that position, are fetched and unpacked by threads of their own: at most 4,
/// and 64 MiB. An error of one is told when it is asked for.
/// Calling the function throws what get_wal_segment() throws, naming the segment.
postgres::WalInput archive_input(storage::ObjectStore& store, ArchivedWal wal, const Stop& stop,
                                 postgres::Lsn ahead_until = {});

}  // namespace holdfast::collection
