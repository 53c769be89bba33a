#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "postgres/lsn.h"
#include "postgres/wal_reader.h"

namespace holdfast::postgres {

/// The timelines that lead to one of them: which one a WAL position, or a WAL segment's file, is to
/// be taken from.
class TimelinePath {
 public:
  /// `ancestors` as parse_timeline_history() gives them for `last`; none for timeline 1.
  TimelinePath(TimelineId last, std::vector<TimelineSwitch> ancestors);

  TimelineId last() const { return last_; }
  /// The newest timeline that begins in the segment or before it: its file also has what its
  /// ancestors wrote into the segment.
  /// Source: PostgreSQL src/backend/access/transam/xlogrecovery.c (XLogFileReadAnyTLI).
  TimelineId of_segment(std::uint64_t segment, std::uint64_t wal_segment_bytes) const;
  /// Whether `lsn` of `timeline` is on the path: false once the path has left that timeline.
  bool contains(TimelineId timeline, Lsn lsn) const;
  /// The newest timeline that had begun at `lsn`.
  TimelineId of_position(Lsn lsn) const;
  /// Where the last timeline begins; zero when it has no ancestors.
  Lsn begin_of_last() const;
  /// Where the path leaves `timeline`; zero when it does not (yet), or never was on it.
  Lsn end_of(TimelineId timeline) const;

 private:
  TimelineId last_;
  std::vector<TimelineSwitch> ancestors_;  // oldest first
};

/// Serves segments from the files of one directory, each from its timeline on `path`.
WalInput wal_directory_input(std::string directory, TimelinePath path,
                             std::uint64_t wal_segment_bytes);

}  // namespace holdfast::postgres
