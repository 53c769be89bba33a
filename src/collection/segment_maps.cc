#include "collection/segment_maps.h"

#include <algorithm>
#include <utility>

#include "collection/block_map_store.h"

namespace holdfast::collection {

using postgres::Lsn;

namespace {

/// Gives only what is flushed; behind it, zeros, which are no record.
postgres::WalInput only_flushed(postgres::WalInput input, std::shared_ptr<Lsn> flushed,
                                std::uint64_t wal_segment_bytes) {
  return [=](std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
    const Lsn begin{segment * wal_segment_bytes + offset};
    if (begin >= *flushed || !input(segment, offset, out)) return false;
    const std::uint64_t good = flushed->value - begin.value;
    if (good < out.size()) {
      std::fill(out.begin() + static_cast<std::ptrdiff_t>(good), out.end(), std::byte{0});
    }
    return true;
  };
}

}  // namespace

SegmentMapBuilder::SegmentMapBuilder(Start start, postgres::WalInput input)
    : start_(std::move(start)),
      flushed_(std::make_shared<Lsn>()),
      reader_({.major = start_.major,
               .wal_segment_bytes = start_.wal_segment_bytes,
               .start = postgres::segment_start(start_.segment, start_.wal_segment_bytes),
               .system_identifier = start_.system_identifier},
              only_flushed(std::move(input), flushed_, start_.wal_segment_bytes)),
      segment_(start_.segment),
      map_(coverage_of(id())) {}

WalSegmentId SegmentMapBuilder::id() const {
  return {.system_identifier = start_.system_identifier,
          .timeline = start_.path.of_segment(segment_, start_.wal_segment_bytes),
          .segment = segment_,
          .segment_bytes = start_.wal_segment_bytes};
}

void SegmentMapBuilder::finish_segment(const Done& done) {
  done(id(), map_);
  ++segment_;
  map_ = BlockMap(coverage_of(id()));
}

void SegmentMapBuilder::read_to(Lsn flushed, const Done& done, const Stop& stop) {
  *flushed_ = std::max(*flushed_, flushed);
  // What the reader has read ahead may be of a moment when less was flushed. It forgets that when
  // it finds no record there.
  bool may_be_old = true;
  while (true) {
    while (segment_of(reader_.position(), start_.wal_segment_bytes) > segment_)
      finish_segment(done);
    if (reader_.position() >= *flushed_) return;
    stop.check();
    const postgres::WalRecord* record = reader_.next();
    if (record == nullptr) {
      if (!std::exchange(may_be_old, false)) return;
      continue;
    }
    // A record that begins right behind a page header may begin in a later segment than the
    // position before it.
    while (segment_of(record->start, start_.wal_segment_bytes) > segment_) finish_segment(done);
    map_.add_record(*record);
    postgres::visit_changes(*record, start_.major, map_);
  }
}

}  // namespace holdfast::collection
