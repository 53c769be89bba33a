#include "backup/wal_cleanup.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/incremental_location.h"
#include "collection/new_layers.h"
#include "jobs/registry.h"

namespace holdfast::backup {

namespace {

/// After so many segments it is looked again for layers that began meanwhile. A backup that takes
/// its lock while they go is longer busy than that, and looks for its WAL before its manifest.
constexpr std::size_t kCleanupBatch = 32;

using SegmentName = std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>;

std::vector<std::string> incremental_directories(storage::ObjectStore& store, const Stop& stop) {
  std::vector<std::string> found;
  for (const std::string& full : collection::list_fulls_with_incrementals(store, stop)) {
    const std::string above = collection::incrementals_of(full);
    for (const std::string& day : store.list_directories(above, stop)) {
      for (const std::string& time : store.list_directories(above + "/" + day, stop)) {
        std::string layer = above + "/" + day + "/" + time;
        if (collection::parse_incremental_directory(layer)) found.push_back(std::move(layer));
      }
    }
  }
  return found;
}

/// Whether somebody may still be writing into a directory without a manifest.
bool is_alive(storage::ObjectStore& store, const std::string& directory, const WalCleanup& cleanup,
              const Stop& stop) {
  const collection::LayerActivity layer = collection::look_at_unfinished(store, directory, stop);
  const Time young = cleanup.now - kAbandonedAfter;
  // The lock is the first object of a layer and goes last: without one nobody writes.
  if (layer.jobs.empty()) return false;
  if (layer.newest_checkpoint && *layer.newest_checkpoint > young) return true;
  return std::ranges::any_of(layer.jobs, [&](jobs::JobId job) {
    return jobs::creation_time(job) > young ||
           (cleanup.has_unfinished_job && cleanup.has_unfinished_job(job));
  });
}

/// The layers of a collection at one moment.
struct Layers {
  std::set<std::string> all;  ///< and what was left behind
  std::set<std::string> finished;
  std::optional<std::string> alive;  ///< one that is being written, if there is one
};

Layers look(storage::ObjectStore& store, const WalCleanup& cleanup, const Stop& stop) {
  std::vector<std::string> directories = collection::list_full_directories(store, stop);
  for (std::string& layer : incremental_directories(store, stop)) {
    directories.push_back(std::move(layer));
  }
  Layers layers{.all = {directories.begin(), directories.end()}, .finished = {}, .alive = {}};
  layers.all.emplace(cleanup.subdirectory);
  for (const std::string& directory : directories) {
    if (directory == cleanup.subdirectory) continue;
    if (store.stat(collection::manifest_key(directory), stop)) {
      layers.finished.insert(directory);
      // What layers in another place need is not known here.
      if (!layers.alive &&
          collection::hidden_incrementals(store, directory, collection::Viewer::Other, stop)) {
        layers.alive = directory;
      }
    } else if (!layers.alive && is_alive(store, directory, cleanup, stop)) {
      layers.alive = directory;
    }
  }
  return layers;
}

/// Absent when a backup's manifest is encrypted with a key that is not at hand.
std::optional<std::set<SegmentName>> needed_segments(storage::ObjectStore& store,
                                                     const std::set<std::string>& layers,
                                                     const Stop& stop) {
  std::set<SegmentName> needed;
  try {
    for (const std::string& directory : layers) {
      const auto layer = collection::read_manifest(store, directory, stop);
      if (!layer) continue;  // removed meanwhile, which the second look sees
      for (const auto& segment : layer->wal()) {
        needed.emplace(layer->instance().system_identifier(), segment.timeline(),
                       segment.segment());
      }
    }
  } catch (const Error& error) {
    if (error.state() != sqlstate::kInvalidParameterValue) throw;
    log::info("keeping archived WAL because not all backups can be read: {}", error.message());
    return std::nullopt;
  }
  return needed;
}

}  // namespace

void add_wal(proto::BackupJobCheckpoint& checkpoint, const collection::WalSegmentId& segment) {
  if (checkpoint.wal_size() > 0) {
    auto& range = *checkpoint.mutable_wal(checkpoint.wal_size() - 1);
    if (range.system_identifier() == segment.system_identifier &&
        range.timeline() == segment.timeline && range.segment_bytes() == segment.segment_bytes &&
        (range.last() + 1 == segment.segment || range.last() == segment.segment)) {
      range.set_last(segment.segment);
      return;
    }
  }
  auto& range = *checkpoint.add_wal();
  range.set_system_identifier(segment.system_identifier);
  range.set_segment_bytes(segment.segment_bytes);
  range.set_timeline(segment.timeline);
  range.set_first(segment.segment);
  range.set_last(segment.segment);
}

void remove_unneeded_wal(storage::ObjectStore& store, const WalCleanup& cleanup,
                         const proto::BackupJobCheckpoint& checkpoint, const Stop& stop) {
  if (checkpoint.wal_size() == 0) return;
  const Layers before = look(store, cleanup, stop);
  if (before.alive) {
    log::info("keeping archived WAL because \"{}\" has an unfinished backup", *before.alive);
    return;
  }
  const auto needed = needed_segments(store, before.finished, stop);
  if (!needed) return;
  // A layer that began after the first look may have counted on the WAL, and be finished by now.
  const Layers after = look(store, cleanup, stop);
  if (after.alive || after.finished != before.finished) {
    log::info("keeping archived WAL because the collection changes");
    return;
  }
  const collection::NewLayers newer(store, after.all);
  std::size_t removed = 0;
  for (const auto& range : checkpoint.wal()) {
    for (std::uint64_t segment = range.first(); segment <= range.last(); ++segment) {
      // Asked for each: an archive that begins meanwhile counts what it finds as archived.
      if (collection::is_wal_archive(store, range.system_identifier(), stop)) break;
      if (needed->contains({range.system_identifier(), range.timeline(), segment})) continue;
      if (removed % kCleanupBatch == 0) {
        if (const auto began = newer.find(stop)) {
          log::info("keeping the rest of the archived WAL because backup \"{}\" began meanwhile",
                    *began);
          return;
        }
      }
      ++removed;
      collection::remove_wal_segment(store,
                                     {.system_identifier = range.system_identifier(),
                                      .timeline = range.timeline(),
                                      .segment = segment,
                                      .segment_bytes = range.segment_bytes()},
                                     stop);
    }
  }
}

}  // namespace holdfast::backup
