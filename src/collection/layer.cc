#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/incremental_location.h"
#include "collection/manifest_internal.h"
#include "collection/names_internal.h"

namespace holdfast::collection {

namespace {

using storage::ObjectKey;
using storage::ObjectStore;

std::string progress_directory(std::string_view directory) {
  return fmt::format("{}/{}", directory, kProgressDirectory);
}

ObjectKey checkpoint_key(std::string_view directory, std::uint64_t sequence) {
  return fmt::format("{}/{}{}", progress_directory(directory), kCheckpointPrefix,
                     inverted_hex(sequence));
}

/// The sequence numbers of the checkpoints there, newest first.
std::vector<std::uint64_t> list_checkpoints(ObjectStore& store, std::string_view directory,
                                            const Stop& stop) {
  std::vector<std::uint64_t> sequences;
  const std::string start = fmt::format("{}/{}", progress_directory(directory), kCheckpointPrefix);
  store.list(
      progress_directory(directory),
      [&](const storage::ObjectInfo& info) {
        if (!info.key.starts_with(start)) return;
        const auto sequence = parse_inverted_hex(std::string_view(info.key).substr(start.size()));
        if (sequence) sequences.push_back(*sequence);
      },
      stop);
  std::sort(sequences.rbegin(), sequences.rend());
  return sequences;
}

/// The jobs that have a lock in `directory`.
std::vector<std::string> list_locks(ObjectStore& store, std::string_view directory,
                                    const Stop& stop) {
  std::vector<std::string> jobs;
  const std::string start = fmt::format("{}/{}", directory, kLockPrefix);
  store.list(
      std::string(directory),
      [&](const storage::ObjectInfo& info) {
        if (info.key.starts_with(start)) jobs.push_back(info.key.substr(start.size()));
      },
      stop);
  return jobs;
}

/// A put of the manifest that was broken off may take effect when the storage has all of it, some
/// time later: without its packs it would be taken for a backup.
void remove_late_manifest(ObjectStore& store, std::string_view directory, const Stop& stop) {
  const ObjectKey key = manifest_key(directory);
  if (!store.stat(key, stop)) return;
  log::warning("removing \"{}\", which appeared while its backup was removed", key);
  if (!storage::remove_if_allowed(store, key, stop)) {
    log::error("the storage keeps \"{}\", whose backup was removed", key);
  }
}

}  // namespace

void take_lock(ObjectStore& store, std::string_view directory, std::int64_t job_id,
               const Stop& stop) {
  if (store.stat(manifest_key(directory), stop)) throw has_manifest(directory);
  const ObjectKey key = lock_key(directory, job_id);
  const bool resumed = store.put(key, as_bytes("lock"), storage::PutMode::OnlyIfAbsent, stop) ==
                       storage::PutResult::Taken;
  // Put first, looked around second: of two that do so at once, at least one sees the other.
  const std::string own = std::to_string(job_id);
  try {
    for (const std::string& other : list_locks(store, directory, stop)) {
      if (other == own) continue;
      throw Error(sqlstate::kObjectInUse,
                  fmt::format("{} already contains a `BACKUP-LOCK` file written by job {}",
                              directory, other));
    }
    if (!resumed && !list_checkpoints(store, directory, stop).empty()) {
      throw Error(sqlstate::kObjectInUse,
                  fmt::format("{} already contains a BACKUP-CHECKPOINT file (is another operation "
                              "already in progress?)",
                              directory));
    }
    // A job that finished in between has removed its lock after writing its manifest.
    if (store.stat(manifest_key(directory), stop)) throw has_manifest(directory);
  } catch (const Error&) {
    if (!resumed) storage::remove_if_allowed(store, key, stop);
    throw;
  }
}

void release_lock(ObjectStore& store, std::string_view directory, std::int64_t job_id,
                  const Stop& stop) {
  storage::remove_if_allowed(store, lock_key(directory, job_id), stop);
}

void require_lock(ObjectStore& store, std::string_view directory, std::int64_t job_id,
                  const Stop& stop) {
  const ObjectKey key = lock_key(directory, job_id);
  if (store.stat(key, stop)) return;
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("lock \"{}\" was removed while the backup ran", key))
      .detail("Whoever did so took the backup for left behind, and may have removed its data.")
      .hint("Take the backup anew.");
}

LayerActivity look_at_unfinished(ObjectStore& store, std::string_view directory, const Stop& stop) {
  LayerActivity found;
  for (const std::string& job : list_locks(store, directory, stop)) {
    std::int64_t id = 0;
    const auto parsed = std::from_chars(job.data(), job.data() + job.size(), id);
    if (parsed.ec == std::errc() && parsed.ptr == job.data() + job.size()) found.jobs.push_back(id);
  }
  const std::vector<std::uint64_t> checkpoints = list_checkpoints(store, directory, stop);
  // Not the time of a clock: one that would be in the year 292278 is somebody's mischief.
  constexpr std::uint64_t kLatest = std::numeric_limits<std::int64_t>::max();
  if (!checkpoints.empty() && checkpoints.front() <= kLatest) {
    found.newest_checkpoint =
        Time(std::chrono::microseconds(static_cast<std::int64_t>(checkpoints.front())));
  }
  return found;
}

void write_checkpoint(ObjectStore& store, std::string_view directory,
                      const proto::Manifest& partial, std::uint64_t sequence, const Stop& stop) {
  const std::vector<std::uint64_t> earlier = list_checkpoints(store, directory, stop);
  // A job that lost its own count in a crash still writes a newer one.
  if (!earlier.empty()) sequence = std::max(sequence, earlier.front() + 1);
  const ObjectKey key = checkpoint_key(directory, sequence);
  if (store.put(key, encode_manifest(partial, key), storage::PutMode::OnlyIfAbsent, stop) ==
      storage::PutResult::Taken) {
    throw Error(sqlstate::kObjectInUse,
                fmt::format("checkpoint \"{}\" was written by another job", key));
  }
  for (const std::uint64_t old : earlier) {
    // Best effort: a storage that forbids removals keeps them, and the newest counts.
    try {
      store.remove(checkpoint_key(directory, old), stop);
    } catch (const Error& error) {
      log::debug("could not remove an older checkpoint: {}", error.message());
    }
  }
}

std::optional<proto::Manifest> read_checkpoint(ObjectStore& store, std::string_view directory,
                                               const Stop& stop) {
  const std::vector<std::uint64_t> sequences = list_checkpoints(store, directory, stop);
  if (sequences.empty()) return std::nullopt;
  return read_sealed(store, checkpoint_key(directory, sequences.front()), stop);
}

void remove_checkpoints(ObjectStore& store, std::string_view directory, const Stop& stop) {
  for (const std::uint64_t sequence : list_checkpoints(store, directory, stop)) {
    storage::remove_if_allowed(store, checkpoint_key(directory, sequence), stop);
  }
}

void remove_unfinished(ObjectStore& store, std::string_view directory, const Stop& stop) {
  if (store.stat(manifest_key(directory), stop)) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("cannot remove \"{}\" as unfinished", directory))
        .detail("It has a manifest, so it is a finished backup.");
  }
  std::vector<ObjectKey> keys;
  store.list(
      std::string(directory),
      [&](const storage::ObjectInfo& info) {
        if (!is_of_other_collection(directory, info.key)) keys.push_back(info.key);
      },
      stop);
  // Locks last: until then nobody else starts in what is left. A manifest that has come since goes
  // first.
  const std::string lock_start = fmt::format("{}/{}", directory, kLockPrefix);
  const auto locks = std::stable_partition(
      keys.begin(), keys.end(), [&](const ObjectKey& key) { return !key.starts_with(lock_start); });
  std::stable_partition(keys.begin(), locks,
                        [&](const ObjectKey& key) { return key == manifest_key(directory); });
  std::size_t kept = 0;
  const auto remove = [&](const ObjectKey& key) {
    kept += !storage::remove_if_allowed(store, key, stop);
  };
  std::for_each(keys.begin(), locks, remove);
  remove_late_manifest(store, directory, stop);
  std::for_each(locks, keys.end(), remove);
  if (kept > 0) {
    log::warning("the storage allows no removals: {} objects of the unfinished \"{}\" stay", kept,
                 directory);
  }
}

}  // namespace holdfast::collection
