#include "collection/scoped_moments.h"

#include <algorithm>

#include "collection/wal_archive.h"
#include "postgres/versions.h"

namespace holdfast::collection {

using postgres::Lsn;
using proto::Manifest;

namespace {

Time ended_at(const Manifest& layer) { return time_from_us(layer.end_time_us()); }
Lsn stopped_at(const Manifest& layer) { return Lsn{layer.stop().position()}; }

}  // namespace

ScopedMoments::ScopedMoments(storage::ObjectStore& store, const std::vector<Manifest>& layers,
                             const Stop& stop)
    : store_(store), layers_(layers), stop_(stop) {
  for (const Manifest& layer : layers) {
    if (!layer.has_history()) continue;
    const auto base = std::ranges::find_if(layers, [&](const Manifest& one) {
      return one.backup_uuid() == layer.base().backup_uuid();
    });
    if (base != layers.end()) histories_.push_back({.base = &*base, .layer = &layer});
  }
  std::ranges::sort(histories_, std::greater<>(),
                    [](const History& one) { return stopped_at(*one.base); });
}

WalStretch ScopedMoments::stretch(const History& history) const {
  const Manifest& layer = *history.layer;
  const auto& instance = layer.instance();
  return {.wal = {.system_identifier = instance.system_identifier(),
                  .wal_segment_bytes = instance.wal_segment_bytes(),
                  .path = postgres::TimelinePath(layer.stop().timeline(), {}),
                  .directory = layer.wal_directory()},
          .major = postgres::major_of(static_cast<int>(instance.server_version_num())),
          .begin = stopped_at(*history.base),
          .end = stopped_at(layer)};
}

Moment ScopedMoments::moment_at(const History& history, Lsn record, Lsn end) {
  Moment moment = end_of(*history.base);
  if (record.valid()) {
    moment.target = RecoveryTarget{.timeline = history.layer->stop().timeline(),
                                   .record = record,
                                   .end = end,
                                   .wal_layer = history.layer->subdirectory()};
  }
  return moment;
}

std::optional<Moment> ScopedMoments::at_time(Time moment) const {
  for (const History& history : histories_) {
    if (moment < ended_at(*history.base) || moment > ended_at(*history.layer)) continue;
    const WalStretch wal = stretch(history);
    const WalPlace place = CommitSearch(store_, wal, stop_).before_commit_after(moment);
    // Without a later commit it is not known that nothing else was committed by then.
    const bool covered =
        place.next_commit || (place.last_commit && place.last_commit->time == moment);
    if (!covered) continue;
    return place.settled ? moment_at(history, place.settled->record, place.settled->end)
                         : moment_at(history, {}, {});
  }
  return std::nullopt;
}

std::optional<Moment> ScopedMoments::at_lsn(Lsn lsn) const {
  for (const History& history : histories_) {
    if (lsn < stopped_at(*history.base) || lsn > stopped_at(*history.layer)) continue;
    const WalStretch wal = stretch(history);
    const WalPlace place = CommitSearch(store_, wal, stop_).before(lsn);
    return moment_at(history, place.record, place.end);
  }
  return std::nullopt;
}

std::optional<Moment> ScopedMoments::at_restore_point(std::string_view name) const {
  for (const History& history : histories_) {
    const WalStretch wal = stretch(history);
    const auto place = CommitSearch(store_, wal, stop_).restore_point(name);
    if (place) return moment_at(history, place->record, place->end);
  }
  return std::nullopt;
}

std::optional<Time> ScopedMoments::last_commit_before(const Moment& moment) const {
  for (const History& history : histories_) {
    if (history.layer->subdirectory() != moment.target->wal_layer) continue;
    WalStretch wal = stretch(history);
    wal.end = moment.target->end;
    const auto commit = CommitSearch(store_, wal, stop_).last_commit();
    if (commit) return std::max(commit->time, ended_at(*history.base));
  }
  return std::nullopt;
}

std::vector<RestorableWindow> ScopedMoments::windows() const {
  std::vector<const Manifest*> layers;
  for (const Manifest& layer : layers_) layers.push_back(&layer);
  std::ranges::sort(layers, {}, [](const Manifest* one) { return stopped_at(*one); });
  std::vector<RestorableWindow> windows;
  for (const Manifest* layer : layers) {
    if (!windows.empty() && stopped_at(*layer) <= windows.back().end_lsn) continue;
    auto& window = windows.emplace_back(RestorableWindow{.timeline = layer->stop().timeline(),
                                                         .begin = ended_at(*layer),
                                                         .end = ended_at(*layer),
                                                         .begin_lsn = stopped_at(*layer),
                                                         .end_lsn = stopped_at(*layer)});
    // Backwards: those that go on from an earlier layer come last.
    for (auto history = histories_.rbegin(); history != histories_.rend(); ++history) {
      const Lsn begin = stopped_at(*history->base);
      if (begin < window.begin_lsn || begin > window.end_lsn) continue;
      window.end_lsn = std::max(window.end_lsn, stopped_at(*history->layer));
      window.end = std::max(window.end, ended_at(*history->layer));
    }
  }
  return windows;
}

}  // namespace holdfast::collection
