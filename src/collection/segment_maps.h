#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/stop.h"
#include "collection/block_map.h"
#include "collection/wal_archive.h"
#include "postgres/timeline_path.h"
#include "postgres/wal_reader.h"

namespace holdfast::collection {

/// Makes the block map of one WAL segment after the other, while the WAL is still being written.
/// Records that go on in the next segment belong to the one that they begin in, so a segment's map
/// is done when its last record is.
class SegmentMapBuilder {
 public:
  struct Start {
    std::uint64_t system_identifier = 0;
    int major = 0;
    std::uint64_t wal_segment_bytes = 0;
    std::uint64_t segment = 0;  ///< the first one to make a map of
    postgres::TimelinePath path;
  };
  using Done = std::function<void(const WalSegmentId&, const BlockMap&)>;

  SegmentMapBuilder(Start start, postgres::WalInput input);

  /// Reads on to `flushed`, and calls `done` for every segment that is complete then. What lies
  /// behind `flushed` is not looked at: a crash may write it anew.
  void read_to(postgres::Lsn flushed, const Done& done, const Stop& stop);

  /// Up to where records were read. Stays behind `flushed` only by an unfinished record.
  postgres::Lsn position() const { return reader_.position(); }
  /// The segment whose map is being made.
  std::uint64_t segment() const { return segment_; }
  /// Why the last read_to() ended before `flushed`, if it did.
  const std::string& end_reason() const { return reader_.end_reason(); }

 private:
  WalSegmentId id() const;
  void finish_segment(const Done& done);

  Start start_;
  // The input knows where to stop by it; owned by this and the copies of the input.
  std::shared_ptr<postgres::Lsn> flushed_;
  postgres::WalReader reader_;
  std::uint64_t segment_;
  BlockMap map_;
};

}  // namespace holdfast::collection
