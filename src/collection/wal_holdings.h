#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/stop.h"
#include "collection/wal_time_mark.h"
#include "postgres/timeline_path.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// What an archive has of one timeline.
struct ArchivedTimeline {
  postgres::TimelinePath path;          ///< leads to it
  std::vector<std::uint64_t> segments;  ///< whole ones, ascending
  /// Segments of which it has the beginning, and how many bytes: where an archive ended, and
  /// another one begins behind a gap, there are several.
  std::map<std::uint64_t, std::uint64_t> tails;
  std::vector<WalTimeMark> time_marks;  ///< in no order
};

/// What the archive of one cluster holds, by the names of its objects at one moment.
class WalHoldings {
 public:
  /// Throws kFeatureNotSupported when the store cannot be listed. A timeline whose history is
  /// missing in the archive is left out.
  static WalHoldings read(storage::ObjectStore& store, std::uint64_t system_identifier,
                          std::uint64_t wal_segment_bytes, const Stop& stop);

  /// In the order of their numbers.
  const std::vector<ArchivedTimeline>& timelines() const { return timelines_; }

  /// Up to where the WAL on `path`, which must be that of one of timelines(), goes on from `from`
  /// without a gap. `from` itself where nothing follows.
  postgres::Lsn end_of(const postgres::TimelinePath& path, postgres::Lsn from) const;

 private:
  const ArchivedTimeline* find(postgres::TimelineId timeline) const;

  std::uint64_t wal_segment_bytes_ = 0;
  std::vector<ArchivedTimeline> timelines_;
};

}  // namespace holdfast::collection
