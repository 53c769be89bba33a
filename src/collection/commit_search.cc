#include "collection/commit_search.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "postgres/wal_changes.h"

namespace holdfast::collection {

using postgres::Lsn;
using postgres::WalReader;
using postgres::WalRecord;

namespace {

std::optional<Commit> commit_of(const WalRecord& record, int major) {
  if (record.resource_manager != postgres::rmgr::kXact) return std::nullopt;
  const auto xact = postgres::parse_xact_record(record, major);
  if (!xact || !xact->commit) return std::nullopt;
  return Commit{record.start, xact->time};
}

}  // namespace

CommitSearch::CommitSearch(storage::ObjectStore& store, const WalStretch& stretch, const Stop& stop)
    : stretch_(stretch),
      stop_(stop),
      input_(archive_input(store, stretch.wal, stop, stretch.end)) {}

std::uint64_t CommitSearch::first_segment() const {
  return segment_of(stretch_.begin, stretch_.wal.wal_segment_bytes);
}

std::uint64_t CommitSearch::last_segment() const {
  return segment_of(Lsn{std::max(stretch_.end.value - 1, stretch_.begin.value)},
                    stretch_.wal.wal_segment_bytes);
}

Lsn CommitSearch::start_of(std::uint64_t segment) const {
  return std::max(stretch_.begin, postgres::segment_start(segment, stretch_.wal.wal_segment_bytes));
}

WalReader CommitSearch::reader_at(Lsn start) const {
  return WalReader({.major = stretch_.major,
                    .wal_segment_bytes = stretch_.wal.wal_segment_bytes,
                    .start = start,
                    .system_identifier = stretch_.wal.system_identifier},
                   input_);
}

/// The last bytes of the stretch are a record that is not complete, or what was never written.
void CommitSearch::check_end(const WalReader& reader) const {
  const std::uint64_t reached = segment_of(reader.position(), stretch_.wal.wal_segment_bytes);
  if (reached + 1 >= last_segment()) return;
  throw Error(sqlstate::kDataCorrupted, fmt::format("WAL in the archive cannot be read beyond {}",
                                                    to_string(reader.position())))
      .detail(reader.end_reason())
      .hint("Moments up to there can be restored.");
}

std::optional<Commit> CommitSearch::first_commit_in(std::uint64_t segment) {
  const Lsn end =
      std::min(stretch_.end, postgres::segment_start(segment + 1, stretch_.wal.wal_segment_bytes));
  WalReader reader = reader_at(start_of(segment));
  while (const WalRecord* record = reader.next()) {
    stop_.check();
    if (record->start >= end) return std::nullopt;
    if (const auto commit = commit_of(*record, stretch_.major)) return commit;
  }
  return std::nullopt;
}

std::uint64_t CommitSearch::segment_to_begin_at(Time moment) {
  // The first segment whose first commit is later: between `low` and `high`.
  std::uint64_t low = first_segment();
  std::uint64_t high = last_segment() + 1;
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    std::optional<Commit> commit;
    std::uint64_t seen = middle;
    while (seen < high && !(commit = first_commit_in(seen))) ++seen;
    if (!commit || commit->time > moment) {
      high = middle;
    } else {
      low = seen + 1;
    }
  }
  // Commits that lie side by side may be out of order, also where segments meet.
  return std::max(first_segment() + 2, low) - 2;
}

WalPlace CommitSearch::walk(Lsn from, const std::optional<Time>& moment, Lsn limit) {
  WalPlace place{
      .record = {}, .end = from, .next = from, .last_commit = {}, .settled = {}, .next_commit = {}};
  WalReader reader = reader_at(from);
  while (const WalRecord* record = reader.next()) {
    stop_.check();
    if (record->start >= limit) return place;
    const auto commit = commit_of(*record, stretch_.major);
    if (commit && moment && commit->time > *moment) {
      place.next_commit = commit;
      return place;
    }
    place.record = record->start;
    place.end = record->end;
    place.next = reader.position();
    if (commit) place.last_commit = commit;
    if (!moment) continue;
    const auto time = postgres::transaction_time(*record, stretch_.major);
    if (time && *time <= *moment) {
      place.settled = WalPlace::Settled{.record = record->start, .end = record->end};
    }
  }
  if (reader.position() < limit) check_end(reader);
  return place;
}

WalPlace CommitSearch::before_commit_after(Time moment) {
  std::uint64_t segment = segment_to_begin_at(moment);
  for (std::uint64_t back = 1;; back *= 2) {
    const WalPlace place = walk(start_of(segment), moment, stretch_.end);
    // A record may be longer than segments, and a transaction than that.
    if (place.settled || segment == first_segment()) return place;
    segment = std::max(first_segment() + back, segment) - back;
  }
}

WalPlace CommitSearch::before(Lsn lsn) {
  std::uint64_t segment =
      std::max(segment_of(lsn, stretch_.wal.wal_segment_bytes), first_segment());
  for (std::uint64_t back = 1;; back *= 2) {
    const WalPlace place = walk(start_of(segment), std::nullopt, lsn);
    if (place.record.valid() || segment == first_segment()) return place;
    segment = std::max(first_segment() + back, segment) - back;
  }
}

std::optional<WalPlace> CommitSearch::restore_point(std::string_view name) {
  std::optional<WalPlace> found;
  std::optional<Commit> last;
  WalReader reader = reader_at(stretch_.begin);
  while (const WalRecord* record = reader.next()) {
    stop_.check();
    if (record->start >= stretch_.end) break;
    if (const auto commit = commit_of(*record, stretch_.major)) last = commit;
    if (postgres::restore_point_name(*record) == name) {
      found = WalPlace{.record = record->start,
                       .end = record->end,
                       .next = reader.position(),
                       .last_commit = last,
                       .settled = {},
                       .next_commit = {}};
    }
  }
  check_end(reader);
  return found;
}

std::optional<Commit> CommitSearch::first_commit() {
  for (std::uint64_t segment = first_segment(); segment <= last_segment(); ++segment) {
    if (const auto commit = first_commit_in(segment)) return commit;
  }
  return std::nullopt;
}

std::optional<Commit> CommitSearch::last_commit() {
  // Nearly always close to the end.
  for (std::uint64_t segment = last_segment() + 1; segment-- > first_segment();) {
    const Lsn end = std::min(stretch_.end,
                             postgres::segment_start(segment + 1, stretch_.wal.wal_segment_bytes));
    const WalPlace place = walk(start_of(segment), std::nullopt, end);
    if (place.last_commit) return place.last_commit;
  }
  return std::nullopt;
}

}  // namespace holdfast::collection
