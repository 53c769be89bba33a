#include "collection/wal_holdings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/names_internal.h"
#include "collection/wal_archive.h"
#include "postgres/lsn.h"

namespace holdfast::collection {

using postgres::Lsn;
using postgres::TimelineId;

namespace {

std::optional<TimelineId> parse_timeline(std::string_view name) {
  TimelineId timeline = 0;
  const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), timeline, 16);
  if (name.size() != 8 || failure != std::errc() || end != name.data() + name.size()) {
    return std::nullopt;
  }
  return timeline;
}

/// Notes what the object is, if it is of the WAL itself.
void take_name(std::string_view name, TimelineId timeline, std::uint64_t wal_segment_bytes,
               ArchivedTimeline& into) {
  if (const auto mark = parse_wal_time_mark(name)) {
    into.time_marks.push_back(*mark);
    return;
  }
  const auto dot = name.find('.');
  const auto segment = postgres::parse_wal_segment_name(name.substr(0, dot), wal_segment_bytes);
  if (dot == std::string_view::npos || !segment || segment->timeline != timeline) return;
  const std::string_view rest = name.substr(dot);
  if (rest == kWalSuffix) {
    into.segments.push_back(segment->segment);
  } else if (rest.ends_with(kWalTailSuffix)) {
    // ".<inverted length>.partial"
    const auto bytes = parse_inverted_hex(rest.substr(1, rest.size() - 1 - kWalTailSuffix.size()));
    if (!bytes || *bytes > wal_segment_bytes) return;
    std::uint64_t& longest = into.tails[segment->segment];
    longest = std::max(longest, *bytes);
  }
}

}  // namespace

WalHoldings WalHoldings::read(storage::ObjectStore& store, std::uint64_t system_identifier,
                              std::uint64_t wal_segment_bytes, const Stop& stop) {
  WalHoldings holdings;
  holdings.wal_segment_bytes_ = wal_segment_bytes;
  auto directories =
      store.list_directories(fmt::format("{}/{}", kWalDirectory, system_identifier), stop);
  std::ranges::sort(directories);
  for (const std::string& name : directories) {
    const auto timeline = parse_timeline(name);
    if (!timeline) continue;
    auto path = get_timeline_path(store, system_identifier, *timeline, stop);
    if (!path) {
      log::warning("the archive lacks the history of timeline {}", *timeline);
      continue;
    }
    ArchivedTimeline found{.path = std::move(*path), .segments = {}, .tails = {}, .time_marks = {}};
    const std::string directory = wal_timeline_directory(system_identifier, *timeline);
    store.list(
        directory,
        [&](const storage::ObjectInfo& info) {
          take_name(std::string_view(info.key).substr(directory.size() + 1), *timeline,
                    wal_segment_bytes, found);
        },
        stop);
    std::ranges::sort(found.segments);
    holdings.timelines_.push_back(std::move(found));
  }
  return holdings;
}

const ArchivedTimeline* WalHoldings::find(TimelineId timeline) const {
  const auto found = std::ranges::find_if(
      timelines_, [&](const ArchivedTimeline& one) { return one.path.last() == timeline; });
  return found != timelines_.end() ? &*found : nullptr;
}

Lsn WalHoldings::end_of(const postgres::TimelinePath& path, Lsn from) const {
  Lsn end = from;
  for (;;) {
    const std::uint64_t segment = segment_of(end, wal_segment_bytes_);
    const ArchivedTimeline* timeline = find(path.of_segment(segment, wal_segment_bytes_));
    if (timeline == nullptr) return end;
    if (std::ranges::binary_search(timeline->segments, segment)) {
      end = postgres::segment_start(segment + 1, wal_segment_bytes_);
      continue;
    }
    if (const auto tail = timeline->tails.find(segment); tail != timeline->tails.end()) {
      const Lsn start = postgres::segment_start(segment, wal_segment_bytes_);
      end = std::max(end, Lsn{start.value + tail->second});
    }
    return end;
  }
}

}  // namespace holdfast::collection
