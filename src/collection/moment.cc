#include "collection/moment.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "collection/scope.h"
#include "collection/scoped_moments.h"
#include "postgres/versions.h"

namespace holdfast::collection {

using postgres::Lsn;
using postgres::TimelineId;
using proto::Manifest;

namespace {

/// So many windows stand in an error's detail.
constexpr std::size_t kMostWindowsNamed = 10;

Time end_time(const Manifest& layer) { return time_from_us(layer.end_time_us()); }
Lsn stop_of(const Manifest& layer) { return Lsn{layer.stop().position()}; }

bool on_path(const postgres::TimelinePath& path, const Manifest& layer) {
  return path.contains(layer.stop().timeline(), stop_of(layer));
}

}  // namespace

Moment end_of(const Manifest& layer) {
  return {.layer = layer.subdirectory(), .target = target_of(layer)};
}

std::string to_string(const RestorableWindow& window) {
  if (window.begin_lsn == window.end_lsn) {
    return fmt::format("{} (timeline {})", format_timestamptz(window.begin), window.timeline);
  }
  return fmt::format("{} to {} (timeline {})", format_timestamptz(window.begin),
                     format_timestamptz(window.end), window.timeline);
}

MomentFinder::MomentFinder(storage::ObjectStore& store, const std::vector<Manifest>& layers,
                           const Stop& stop, MomentFor purpose)
    : store_(store), layers_(layers), stop_(stop), purpose_(purpose) {
  HF_ASSERT(!layers.empty());
  const auto& instance = layers.front().instance();
  if (is_scoped(layers.front())) {
    // Each such layer has WAL of its own, up to its end. What the archive keeps for others would
    // lead on, but whether it does is no promise of this chain's.
    scoped_ = std::make_unique<ScopedMoments>(store, layers, stop);
    return;
  }
  try {
    holdings_ =
        WalHoldings::read(store, instance.system_identifier(), instance.wal_segment_bytes(), stop);
  } catch (const Error& error) {
    // A web server cannot list: the layers' own ends are what is known.
    if (error.state() != sqlstate::kFeatureNotSupported) throw;
  }
}

MomentFinder::~MomentFinder() = default;

const Manifest* MomentFinder::last_layer(const postgres::TimelinePath& path,
                                         const std::function<bool(const Manifest&)>& fits) const {
  const Manifest* last = nullptr;
  for (const Manifest& layer : layers_) {
    if (!on_path(path, layer) || !fits(layer)) continue;
    if (last == nullptr || stop_of(*last) <= stop_of(layer)) last = &layer;
  }
  return last;
}

WalStretch MomentFinder::stretch(const postgres::TimelinePath& path, Lsn begin) const {
  const auto& instance = layers_.front().instance();
  return {.wal = {.system_identifier = instance.system_identifier(),
                  .wal_segment_bytes = instance.wal_segment_bytes(),
                  .path = path},
          .major = postgres::major_of(static_cast<int>(instance.server_version_num())),
          .begin = begin,
          .end = holdings_.end_of(path, begin)};
}

bool MomentFinder::is_covered(const ArchivedTimeline& timeline, const WalPlace& place,
                              Time moment) const {
  if (place.next_commit) return true;
  if (place.last_commit && place.last_commit->time == moment) return true;
  // Of a gap behind which the archive goes on, a mark proves nothing: it lies behind the WAL here.
  return std::ranges::any_of(timeline.time_marks, [&](const WalTimeMark& mark) {
    return moment < mark.time && mark.lsn <= place.next;
  });
}

std::optional<MomentFinder::Found> MomentFinder::look_for(const ArchivedTimeline& timeline,
                                                          Time moment) const {
  const auto& path = timeline.path;
  const Manifest* layer =
      last_layer(path, [&](const Manifest& one) { return end_time(one) <= moment; });
  if (layer == nullptr) return std::nullopt;
  const WalStretch wal = stretch(path, stop_of(*layer));
  const Lsn own = path.begin_of_last();
  // What lies before it is found on the timelines that lead to this one.
  if (wal.end <= std::max(own, wal.begin)) return std::nullopt;
  const WalPlace place = CommitSearch(store_, wal, stop_).before_commit_after(moment);
  if (!is_covered(timeline, place, moment)) return std::nullopt;
  Found found{.layer = layer, .place = place, .timeline = path.last(), .of_place = path.last()};
  if (place.next_commit) found.of_place = path.of_position(place.next_commit->record);
  found.before_own_commits = own.valid() && found.of_place == path.last() &&
                             stop_of(*layer) < own &&
                             (!place.last_commit || place.last_commit->record < own);
  return found;
}

std::optional<MomentFinder::Found> MomentFinder::look_for(const ArchivedTimeline& timeline,
                                                          Lsn lsn) const {
  const auto& path = timeline.path;
  const Manifest* layer =
      last_layer(path, [&](const Manifest& one) { return stop_of(one) <= lsn; });
  if (layer == nullptr) return std::nullopt;
  const WalStretch wal = stretch(path, stop_of(*layer));
  if (wal.end < lsn) return std::nullopt;
  const WalPlace place = CommitSearch(store_, wal, stop_).before(lsn);
  return Found{.layer = layer,
               .place = place,
               .timeline = path.last(),
               .of_place = path.of_position(place.record.valid() ? place.record : wal.begin)};
}

/// Whether the timeline that `found`'s left went on without it, as one does whose server is
/// restored to an earlier moment: then nobody knows which of the two was meant.
bool MomentFinder::other_future(const Found& found) const {
  const auto timeline = std::ranges::find_if(
      holdings_.timelines(), [&](const auto& one) { return one.path.last() == found.timeline; });
  const Lsn own = timeline->path.begin_of_last();
  const TimelineId left = timeline->path.of_position(Lsn{own.value - 1});
  for (const ArchivedTimeline& other : holdings_.timelines()) {
    if (other.path.last() != left) continue;
    const WalStretch wal = stretch(other.path, own);
    if (wal.end > own && CommitSearch(store_, wal, stop_).first_commit()) return true;
  }
  return false;
}

/// Whether recovery along the timeline may end with the last thing that was settled (or at the end
/// of the layer, where nothing was): a timeline can be left behind its begin only.
bool MomentFinder::settled_on_own_timeline(const Found& found) const {
  const auto timeline = std::ranges::find_if(
      holdings_.timelines(), [&](const auto& one) { return one.path.last() == found.timeline; });
  const Lsn own = timeline->path.begin_of_last();
  const auto& settled = found.place.settled;
  return !own.valid() || (settled ? settled->record : stop_of(*found.layer)) >= own;
}

Moment MomentFinder::choose(std::vector<Found> found, std::string_view what,
                            const std::optional<Time>& moment) const {
  if (std::ranges::any_of(found, [](const Found& one) { return !one.before_own_commits; })) {
    std::erase_if(found, [](const Found& one) { return one.before_own_commits; });
  } else {
    std::erase_if(found, [this](const Found& one) { return other_future(one); });
  }
  if (found.empty()) throw not_covered(moment);
  for (const Found& one : found) {
    if (one.of_place == found.front().of_place) continue;
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("{} is ambiguous: timelines {} and {} both have it", what,
                            found.front().of_place, one.of_place))
        .detail("The cluster was restored to an earlier moment and both histories are kept.")
        .hint(
            "Restore a layer of the history that you want (SHOW BACKUP lists them), or a moment "
            "that only one of them has.");
  }
  // Of several that agree, the one that needs no knowledge of later timelines.
  const Found& best = *std::ranges::min_element(found, {}, &Found::timeline);
  Moment chosen = collection::end_of(*best.layer);
  if (moment && settled_on_own_timeline(best)) {
    if (!best.place.settled) return chosen;
    chosen.target = RecoveryTarget{.timeline = best.timeline,
                                   .record = best.place.settled->record,
                                   .end = best.place.settled->end};
  } else if (best.place.record.valid()) {
    chosen.target = RecoveryTarget{
        .timeline = best.timeline, .record = best.place.record, .end = best.place.end};
  }
  return chosen;
}

Error MomentFinder::only_ends(Time moment) const {
  if (purpose_ == MomentFor::Backup) {
    return Error(sqlstate::kInvalidParameterValue,
                 fmt::format("cannot back up the state of {}: no WAL behind a backup of this "
                             "collection covers it",
                             format_timestamptz(moment)))
        .detail(
            "PostgreSQL itself keeps no earlier states. They come from a backup and from the WAL "
            "that its collection has kept since.")
        .hint(
            "Leave AS OF SYSTEM TIME out to back up the present state. BACKUP INTO … WITH "
            "revision_history keeps the WAL from then on.");
  }
  const Manifest* before = nullptr;
  const Manifest* after = nullptr;
  for (const Manifest& layer : layers_) {
    // Not in the order of their ends: one that was interrupted and resumed ends late.
    const Time end = end_time(layer);
    if (end < moment && (before == nullptr || end > end_time(*before))) before = &layer;
    if (end > moment && (after == nullptr || end < end_time(*after))) after = &layer;
  }
  std::string nearest = "nearest backup time is ";
  if (before != nullptr && after != nullptr) {
    nearest =
        fmt::format("nearest BACKUP times are {} or {}", format_timestamptz(end_time(*before)),
                    format_timestamptz(end_time(*after)));
  } else if (before != nullptr || after != nullptr) {
    nearest += format_timestamptz(end_time(before != nullptr ? *before : *after));
  }
  return Error(
             sqlstate::kInvalidParameterValue,
             fmt::format("invalid RESTORE timestamp: restoring to arbitrary time requires that "
                         "BACKUP for requested time be created with 'revision_history' option. {}",
                         nearest))
      .hint("SHOW BACKUP FROM … IN lists the end times of the layers.");
}

Error MomentFinder::not_covered(const std::optional<Time>& moment) const {
  const auto all = windows();
  // CockroachDB's words for both (reference, section 3.7).
  if (moment && std::ranges::all_of(all, [](const auto& one) { return one.begin == one.end; })) {
    return only_ends(*moment);
  }
  Error error(sqlstate::kInvalidParameterValue,
              fmt::format("invalid {} timestamp: supplied backups do not cover requested time",
                          purpose_ == MomentFor::Restore ? "RESTORE" : "BACKUP"));
  std::string text;
  for (std::size_t i = 0; i < std::min(all.size(), kMostWindowsNamed); ++i) {
    text += fmt::format("{}{}", text.empty() ? "" : "; ", to_string(all[i]));
  }
  if (all.size() > kMostWindowsNamed) {
    text += fmt::format("; and {} more", all.size() - kMostWindowsNamed);
  }
  return error.detail(fmt::format("What can be restored: {}.", text))
      .hint("SHOW BACKUP WINDOWS FROM … IN lists it; other full backups may cover other times.");
}

Moment MomentFinder::at_time(Time moment) const {
  for (const Manifest& layer : layers_) {
    if (end_time(layer) == moment) return collection::end_of(layer);
  }
  if (scoped_) {
    auto found = scoped_->at_time(moment);
    if (!found) throw not_covered(moment);
    return std::move(*found);
  }
  std::vector<Found> found;
  for (const ArchivedTimeline& timeline : holdings_.timelines()) {
    if (const auto one = look_for(timeline, moment)) found.push_back(*one);
  }
  return choose(std::move(found), format_timestamptz(moment), moment);
}

Moment MomentFinder::at_lsn(Lsn lsn) const {
  for (const Manifest& layer : layers_) {
    if (stop_of(layer) == lsn) return collection::end_of(layer);
  }
  if (scoped_) {
    auto found = scoped_->at_lsn(lsn);
    if (!found) throw not_covered(std::nullopt);
    return std::move(*found);
  }
  std::vector<Found> found;
  for (const ArchivedTimeline& timeline : holdings_.timelines()) {
    if (const auto one = look_for(timeline, lsn)) found.push_back(*one);
  }
  return choose(std::move(found), to_string(lsn), std::nullopt);
}

Moment MomentFinder::behind(TimelineId timeline, Lsn lsn) const {
  // A WAL-only layer may end there: then no record is left to replay to.
  for (const Manifest& layer : layers_) {
    if (stop_of(layer) == lsn && layer.has_recovery_target() &&
        layer.recovery_target().timeline() == timeline) {
      return collection::end_of(layer);
    }
  }
  if (scoped_) {
    auto found = scoped_->at_lsn(lsn);
    const bool there =
        found && found->target && found->target->timeline == timeline && found->target->end == lsn;
    if (!there) throw not_covered(std::nullopt);
    return std::move(*found);
  }
  const auto& timelines = holdings_.timelines();
  const auto archived = std::ranges::find_if(
      timelines, [&](const ArchivedTimeline& one) { return one.path.last() == timeline; });
  const auto found = archived == timelines.end() ? std::nullopt : look_for(*archived, lsn);
  if (!found) throw not_covered(std::nullopt);
  if (found->place.record.valid() && found->place.end == lsn) {
    return choose({*found}, to_string(lsn), std::nullopt);
  }
  throw Error(sqlstate::kDataCorrupted,
              fmt::format("no WAL record of timeline {} ends at {}", timeline, to_string(lsn)))
      .hint("The archive is not of the server that it is said to be of, or was damaged.");
}

Moment MomentFinder::at_restore_point(std::string_view name) const {
  if (scoped_) {
    if (auto found = scoped_->at_restore_point(name)) return std::move(*found);
  }
  const auto& timelines = holdings_.timelines();
  for (auto timeline = timelines.rbegin(); timeline != timelines.rend(); ++timeline) {
    // From the first layer on; a gap behind it may be bridged by a later one.
    std::optional<WalPlace> place;
    Lsn read;
    for (const Manifest& layer : layers_) {
      if (!on_path(timeline->path, layer) || stop_of(layer) < read) continue;
      const WalStretch wal = stretch(timeline->path, stop_of(layer));
      read = wal.end;
      if (wal.end == wal.begin) continue;
      if (const auto one = CommitSearch(store_, wal, stop_).restore_point(name)) place = one;
    }
    if (!place) continue;
    const Manifest* layer = last_layer(
        timeline->path, [&](const Manifest& one) { return stop_of(one) <= place->record; });
    return {.layer = layer->subdirectory(),
            .target = RecoveryTarget{
                .timeline = timeline->path.last(), .record = place->record, .end = place->end}};
  }
  throw Error(sqlstate::kUndefinedObject,
              fmt::format("restore point \"{}\" is not in the WAL behind these backups", name))
      .hint("SHOW BACKUP WINDOWS FROM … IN lists what can be restored.");
}

Time MomentFinder::last_commit_before(const Moment& moment) const {
  const auto layer = std::ranges::find(layers_, moment.layer, &Manifest::subdirectory);
  HF_ASSERT(layer != layers_.end());
  if (!moment.target || moment.target->end <= stop_of(*layer)) return end_time(*layer);
  if (scoped_) return scoped_->last_commit_before(moment).value_or(end_time(*layer));
  const auto timeline = std::ranges::find_if(
      holdings_.timelines(),
      [&](const ArchivedTimeline& one) { return one.path.last() == moment.target->timeline; });
  HF_ASSERT(timeline != holdings_.timelines().end());
  WalStretch wal = stretch(timeline->path, stop_of(*layer));
  wal.end = moment.target->end;
  const auto commit = CommitSearch(store_, wal, stop_).last_commit();
  return commit ? std::max(commit->time, end_time(*layer)) : end_time(*layer);
}

std::optional<RestorableWindow> MomentFinder::with_times(const ArchivedTimeline& timeline,
                                                         const Manifest* layer, Lsn begin,
                                                         Lsn end) const {
  RestorableWindow window{
      .timeline = timeline.path.last(), .begin = {}, .end = {}, .begin_lsn = begin, .end_lsn = end};
  std::optional<Commit> first;
  std::optional<Commit> last;
  if (begin < end) {
    WalStretch wal = stretch(timeline.path, begin);
    wal.end = end;
    CommitSearch search(store_, wal, stop_);
    if (layer == nullptr) first = search.first_commit();
    last = search.last_commit();
  }
  if (layer == nullptr && !first) return std::nullopt;
  window.begin = layer != nullptr ? end_time(*layer) : first->time;
  window.end = last ? std::max(last->time, window.begin) : window.begin;
  // A mark tells of what was committed before its time, so the last moment is the one before.
  for (const WalTimeMark& mark : timeline.time_marks) {
    if (mark.lsn <= end && begin < mark.lsn) {
      window.end = std::max(window.end, mark.time - std::chrono::microseconds(1));
    }
  }
  return window;
}

std::vector<RestorableWindow> MomentFinder::windows_of(const ArchivedTimeline& timeline) const {
  std::vector<const Manifest*> layers;
  for (const Manifest& layer : layers_) {
    if (on_path(timeline.path, layer)) layers.push_back(&layer);
  }
  std::ranges::sort(layers, {}, [](const Manifest* one) { return stop_of(*one); });
  const Lsn own = timeline.path.begin_of_last();
  std::vector<RestorableWindow> windows;
  Lsn covered;
  for (const Manifest* layer : layers) {
    if (covered.valid() && stop_of(*layer) <= covered) continue;
    covered = holdings_.end_of(timeline.path, stop_of(*layer));
    const bool is_own = stop_of(*layer) >= own;
    if (!is_own && covered <= own) continue;
    const auto window =
        with_times(timeline, is_own ? layer : nullptr, is_own ? stop_of(*layer) : own, covered);
    if (window) windows.push_back(*window);
  }
  return windows;
}

std::vector<RestorableWindow> MomentFinder::windows() const {
  if (scoped_) return scoped_->windows();
  std::vector<RestorableWindow> all;
  for (const ArchivedTimeline& timeline : holdings_.timelines()) {
    const auto windows = windows_of(timeline);
    all.insert(all.end(), windows.begin(), windows.end());
  }
  return all;
}

}  // namespace holdfast::collection
