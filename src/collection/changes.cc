#include "collection/changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "collection/block_map_store.h"
#include "collection/wal_archive.h"
#include "collection/wal_archive_input.h"

namespace holdfast::collection {

using postgres::Lsn;
using postgres::WalInput;

namespace {

/// Goes through the range segment by segment.
class Collector {
 public:
  Collector(storage::ObjectStore& store, const ChangesRequest& request, const Stop& stop)
      : store_(store), request_(request), stop_(stop) {
    if (request.with_archive) {
      archive_ = archive_input(store,
                               {.system_identifier = request.system_identifier,
                                .wal_segment_bytes = request.wal_segment_bytes,
                                .path = request.path},
                               stop, request.to);
    } else {
      archive_ = [](std::uint64_t, std::uint64_t, MutableByteView) { return false; };
    }
    if (!request.wal_directory.empty()) {
      local_ = wal_directory_input(request.wal_directory, request.path, request.wal_segment_bytes);
    }
  }

  Changes collect() {
    const std::uint64_t bytes = request_.wal_segment_bytes;
    Lsn at = request_.from;
    while (at < request_.to) {
      stop_.check();
      const std::uint64_t segment = segment_of(at, bytes);
      const Lsn end = std::min(postgres::segment_start(segment + 1, bytes), request_.to);
      if (!take(segment, at, end)) return {.map = std::nullopt, .reason = reason_};
      at = end;
    }
    if (!map_) map_.emplace(coverage(request_.from, request_.to));
    if (map_->is_wal_minimal()) {
      return {.map = std::nullopt,
              .reason = "the server ran with wal_level = minimal meanwhile",
              .wal_minimal = true};
    }
    return {.map = std::move(map_), .reason = {}};
  }

 private:
  WalSegmentId id_of(std::uint64_t segment) const {
    return {.system_identifier = request_.system_identifier,
            .timeline = request_.path.of_segment(segment, request_.wal_segment_bytes),
            .segment = segment,
            .segment_bytes = request_.wal_segment_bytes};
  }

  WalCoverage coverage(Lsn start, Lsn end) const {
    const std::uint64_t last = segment_of(Lsn{end.value - 1}, request_.wal_segment_bytes);
    return {.system_identifier = request_.system_identifier,
            .timeline = request_.path.of_segment(last, request_.wal_segment_bytes),
            .start = start,
            .end = end};
  }

  /// False, with the reason, when nothing tells what the records in [at, end) change.
  bool take(std::uint64_t segment, Lsn at, Lsn end) {
    reason_.clear();
    const WalCoverage whole = coverage_of(id_of(segment));
    const bool is_whole = whole.start == at && whole.end == end;
    // A part of a segment is read, if it can be: its map may name much that changed outside.
    if (is_whole && take_stored(segment)) return true;
    if (scan(at, end)) return true;
    if (!is_whole && take_stored(segment)) return true;
    return false;
  }

  bool take_stored(std::uint64_t segment) {
    if (!request_.with_archive) return false;
    auto map = get_block_map(store_, id_of(segment), stop_);
    return map && add(segment, std::move(*map));
  }

  bool scan(Lsn at, Lsn end) {
    return (local_ && scan(at, end, local_)) || scan(at, end, archive_);
  }

  bool scan(Lsn at, Lsn end, const WalInput& input) {
    const postgres::WalRange range{.reader = {.major = request_.major,
                                              .wal_segment_bytes = request_.wal_segment_bytes,
                                              .start = at,
                                              .system_identifier = request_.system_identifier},
                                   .end = end};
    try {
      return add(segment_of(at, request_.wal_segment_bytes),
                 build_block_map(range, coverage(at, end).timeline, either(input), stop_));
    } catch (const Error& error) {
      // pg_wal is another process's: its files come and go, and may be recycled ones.
      if (error.state() != sqlstate::kDataCorrupted) throw;
      if (!reason_.empty()) return false;
      const WalSegmentId id = id_of(segment_of(at, request_.wal_segment_bytes));
      reason_ =
          fmt::format("WAL segment {} is neither in the archive nor in pg_wal, or not readable",
                      postgres::wal_segment_name(id.timeline, id.segment, id.segment_bytes));
      return false;
    }
  }

  /// `first`, and for what it lacks the archive: a record may go on in a segment that is only
  /// there.
  WalInput either(const WalInput& first) const {
    return [&](std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
      return first(segment, offset, out) || archive_(segment, offset, out);
    };
  }

  /// False, with the reason, when the map is of another history than what was added before it.
  bool add(std::uint64_t segment, BlockMap map) {
    if (map_ && !map.continues(*map_)) {
      const WalSegmentId id = id_of(segment);
      reason_ = fmt::format("WAL segment {} does not continue the one before it",
                            postgres::wal_segment_name(id.timeline, id.segment, id.segment_bytes));
      return false;
    }
    if (map_) {
      map_->merge(map);
    } else {
      map_ = std::move(map);
    }
    return true;
  }

  storage::ObjectStore& store_;
  const ChangesRequest& request_;
  const Stop& stop_;
  WalInput archive_;
  WalInput local_;
  std::optional<BlockMap> map_;
  std::string reason_;
};

}  // namespace

Changes changes_between(storage::ObjectStore& store, const ChangesRequest& request,
                        const Stop& stop) {
  if (request.to < request.from) {
    return {
        .map = std::nullopt,
        .reason = fmt::format("{} is before {}", to_string(request.to), to_string(request.from))};
  }
  if (!request.path.contains(request.from_timeline, request.from)) {
    return {
        .map = std::nullopt,
        .reason = fmt::format("{} of timeline {} is not in the history of timeline {}",
                              to_string(request.from), request.from_timeline, request.path.last())};
  }
  return Collector(store, request, stop).collect();
}

}  // namespace holdfast::collection
