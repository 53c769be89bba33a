#include "collection/changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
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
    if (local_ && lacks_record(request_.from)) {
      return other_history(fmt::format("pg_wal has no WAL record at {}", to_string(request_.from)));
    }
    Lsn at = request_.from;
    while (at < request_.to) {
      stop_.check();
      const std::uint64_t segment = segment_of(at, bytes);
      const Lsn end = std::min(postgres::segment_start(segment + 1, bytes), request_.to);
      if (!take(segment, at, end)) {
        return {.map = std::nullopt, .reason = reason_, .other_history = other_history_};
      }
      at = end;
    }
    if (local_ && !leads_to_end()) {
      return other_history(
          fmt::format("the WAL record at {} does not continue the archived WAL before it",
                      to_string(request_.to)));
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

  static Changes other_history(std::string reason) {
    return {.map = std::nullopt, .reason = std::move(reason), .other_history = true};
  }

  postgres::WalReaderOptions reader_at(Lsn start) const {
    return {.major = request_.major,
            .wal_segment_bytes = request_.wal_segment_bytes,
            .start = start,
            .system_identifier = request_.system_identifier};
  }

  /// Whether pg_wal has the segment of `lsn`, and not a recycled one in its place. By its first
  /// page: what a switch leaves of it is zeros.
  bool has_segment_of(Lsn lsn) const {
    const std::uint64_t bytes = request_.wal_segment_bytes;
    return postgres::has_wal_page(local_, postgres::segment_start(segment_of(lsn, bytes), bytes),
                                  bytes);
  }

  /// Whether pg_wal has the place where a record should begin, and none begins there.
  bool lacks_record(Lsn lsn) const {
    if (lsn >= request_.to || !has_segment_of(lsn)) return false;
    postgres::WalReader reader(reader_at(lsn), local_);
    const bool lacks =
        reader.next() == nullptr && reader.end() == postgres::WalReader::End::Invalid;
    // The server may have recycled the file just now.
    return lacks && has_segment_of(lsn);
  }

  /// Whether the server's record at the end follows the last one that was gone through, as far as
  /// that is known. What is stored of whole segments would not show by itself that the server has
  /// written others since.
  bool leads_to_end() const {
    if (!last_record_ || *last_record_ >= request_.to) return true;
    postgres::WalReader reader(reader_at(request_.to), local_);
    const postgres::WalRecord* record = reader.next();
    return record == nullptr || record->previous == *last_record_;
  }

  /// False, with the reason, when nothing tells what the records in [at, end) change.
  bool take(std::uint64_t segment, Lsn at, Lsn end) {
    reason_.clear();
    const WalCoverage whole = coverage_of(id_of(segment));
    const bool is_whole = whole.start == at && whole.end == end;
    // A part of a segment is read, if it can be: its map may name much that changed outside.
    if (is_whole && take_stored(segment)) return true;
    if (scan(at, end)) return true;
    if (other_history_) return false;
    if (!is_whole && take_stored(segment)) return true;
    return false;
  }

  bool take_stored(std::uint64_t segment) {
    if (!request_.with_archive) return false;
    auto map = get_block_map(store_, id_of(segment), stop_);
    if (!map) return false;
    const bool known = map->records().known();
    if (!add(segment, std::move(*map))) return false;
    // One of an earlier release does not say what it ends with.
    if (!known) last_record_.reset();
    return true;
  }

  bool scan(Lsn at, Lsn end) {
    if (local_) {
      if (scan(at, end, local_)) return true;
      // The server's own WAL tells; what the archive has in its place is of no use.
      if (other_history_) return false;
    }
    return scan(at, end, archive_);
  }

  bool scan(Lsn at, Lsn end, const WalInput& input) {
    const postgres::WalRange range{.reader = reader_at(at), .end = end};
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
    const bool known = map.records().known();
    // A stored map may be another's; whether the server's WAL continues is looked at next. Only
    // where that is not there, or does not either, does the other history stay.
    other_history_ = known && last_record_ && map.records().previous != *last_record_;
    if (other_history_) {
      const WalSegmentId id = id_of(segment);
      reason_ = fmt::format("WAL segment {} does not continue the one before it",
                            postgres::wal_segment_name(id.timeline, id.segment, id.segment_bytes));
      return false;
    }
    if (known) last_record_ = map.records().last;
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
  std::optional<Lsn> last_record_;  // that was gone through; absent: not known
  std::string reason_;
  bool other_history_ = false;  // the last map that was to be added is of another one
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
