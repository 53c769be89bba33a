#include "collection/chain.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>

#include "base/assert.h"
#include "base/error.h"
#include "base/mutex.h"
#include "base/worker_pool.h"
#include "collection/collection.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "collection/manifest_internal.h"

namespace holdfast::collection {

namespace {

/// Waits for the storage more than for the processor.
constexpr std::size_t kReaders = 8;

Error broken_chain(std::string_view directory, std::string_view why) {
  return Error(sqlstate::kDataCorrupted,
               fmt::format("the chain of backup \"{}\" is broken", directory))
      .detail(std::string(why))
      .hint("Restore an earlier layer, and start a new chain with BACKUP INTO.");
}

/// Whether `layer` is what the layer on it says it is.
void check_link(const proto::Manifest& layer, const proto::LayerReference& reference,
                std::string_view directory) {
  if (layer.backup_uuid() != reference.backup_uuid()) {
    throw broken_chain(directory,
                       fmt::format("\"{}\" is not the backup that the next layer continues.",
                                   reference.directory()));
  }
}

/// What clear() of a repeated field does not do: its memory is given back.
template <typename Field>
void release(Field* field) {
  Field().Swap(field);
}

void drop_lists(proto::Manifest& layer) {
  release(layer.mutable_files());
  release(layer.mutable_directories());
  release(layer.mutable_objects());
  release(layer.mutable_wal());
}

Error too_much(const std::vector<std::string>& directories, std::uint64_t most_memory) {
  return Error(sqlstate::kOutOfMemory,
               fmt::format("the manifests of the {} layers from \"{}\" on take more than {} MiB of "
                           "memory",
                           directories.size(), directories.front(), most_memory >> 20))
      .detail("Half of the machine's memory is the most that they may take.")
      .hint(
          "Begin a new chain with BACKUP INTO more often; a machine with more memory can read it.");
}

}  // namespace

std::vector<std::string> list_layers(storage::ObjectStore& store, std::string_view full,
                                     const Stop& stop) {
  if (!store.stat(manifest_key(full), stop)) return {};
  std::vector<std::string> incrementals;
  const std::string above = incrementals_of(full);
  for (const std::string& day : store.list_directories(above, stop)) {
    for (const std::string& time : store.list_directories(above + "/" + day, stop)) {
      std::string directory = fmt::format("{}/{}/{}", above, day, time);
      if (parse_incremental_directory(directory)) incrementals.push_back(std::move(directory));
    }
  }
  // What lacks a manifest does not exist.
  std::vector<char> finished(incrementals.size());
  std::atomic<std::size_t> next = 0;
  run_workers(std::clamp<std::size_t>(incrementals.size(), 1, kReaders), stop,
              [&](std::size_t, const Stop& worker_stop) {
                for (std::size_t i = next++; i < incrementals.size(); i = next++) {
                  finished[i] = store.stat(manifest_key(incrementals[i]), worker_stop).has_value();
                }
              });
  std::vector<std::string> layers{std::string(full)};
  for (std::size_t i = 0; i < incrementals.size(); ++i) {
    if (finished[i] != 0) layers.push_back(std::move(incrementals[i]));
  }
  // All names are of one length, so that the order of names is that of times.
  std::sort(layers.begin() + 1, layers.end());
  return layers;
}

std::vector<std::string> list_fulls_with_incrementals(storage::ObjectStore& store,
                                                      const Stop& stop) {
  std::vector<std::string> fulls;
  const std::string root(kIncrementalsDirectory);
  for (const std::string& year : store.list_directories(root, stop)) {
    for (const std::string& month : store.list_directories(root + "/" + year, stop)) {
      const std::string above = year + "/" + month;
      for (const std::string& day : store.list_directories(root + "/" + above, stop)) {
        std::string full = above + "/" + day;
        if (parse_subdirectory(full)) fulls.push_back(std::move(full));
      }
    }
  }
  return fulls;
}

std::vector<proto::Manifest> read_manifests(
    storage::ObjectStore& store, const std::vector<std::string>& directories, const Stop& stop,
    std::uint64_t most_memory, const std::function<void(std::size_t, proto::Manifest&)>& keep) {
  if (most_memory == 0) most_memory = half_of_memory();
  std::vector<proto::Manifest> manifests(directories.size());
  Mutex one_large;  // Eight large ones unpacked at once would be more than they are worth.
  std::atomic<std::uint64_t> memory = 0;
  std::atomic<std::size_t> next = 0;
  run_workers(std::clamp<std::size_t>(directories.size(), 1, kReaders), stop,
              [&](std::size_t, const Stop& worker_stop) {
                for (std::size_t i = next++; i < directories.size(); i = next++) {
                  const storage::ObjectKey key = manifest_key(directories[i]);
                  const auto stored = get_whole(store, key, storage::kMaxObjectBytes, worker_stop);
                  if (!stored) {
                    throw Error(sqlstate::kUndefinedFile,
                                fmt::format("backup manifest \"{}\" does not exist in {}", key,
                                            store.description()))
                        .detail("A finished backup has a manifest; it is the last object written.")
                        .hint("List the finished backups with SHOW BACKUPS IN.");
                  }
                  if (claimed_bytes(*stored) > kSmallManifestBytes) {
                    const MutexLock lock(one_large);
                    worker_stop.check();
                    manifests[i] = decode_manifest(*stored, key);
                  } else {
                    manifests[i] = decode_manifest(*stored, key);
                  }
                  check_place(manifests[i], directories[i]);
                  if (keep) keep(i, manifests[i]);
                  memory += manifests[i].SpaceUsedLong();
                  if (memory > most_memory) throw too_much(directories, most_memory);
                }
              });
  return manifests;
}

std::vector<proto::Manifest> read_chain(storage::ObjectStore& store, std::string_view directory,
                                        const Stop& stop, LowerLayers lower) {
  const auto name = parse_incremental_directory(directory);
  if (!name) return read_manifests(store, {std::string(directory)}, stop);

  // All at once: to ask for each layer only when the one on it is known would take as many round
  // trips as there are layers. Those that turn out to be on another branch are read in vain.
  std::vector<std::string> directories = list_layers(store, name->full, stop);
  std::erase_if(directories,
                [&](const std::string& one) { return one != name->full && one > directory; });
  if (directories.empty() || directories.back() != directory) {
    read_manifests(store, {name->full, std::string(directory)}, stop);  // says what is missing
    throw broken_chain(directory, "Its layers changed while they were listed.");
  }
  std::map<std::string, proto::Manifest> found;
  const auto keep = [&](std::size_t number, proto::Manifest& layer) {
    if (lower == LowerLayers::WithoutLists && number + 1 < directories.size()) drop_lists(layer);
  };
  for (auto& manifest : read_manifests(store, directories, stop, 0, keep)) {
    std::string key = manifest.subdirectory();
    found.emplace(std::move(key), std::move(manifest));
  }
  std::vector<proto::Manifest> chain;
  std::string wanted(directory);
  while (true) {
    auto node = found.extract(wanted);
    if (node.empty()) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("layer \"{}\" of backup \"{}\" does not exist", wanted, directory))
          .detail("Without it the backup cannot be restored.");
    }
    if (!chain.empty()) check_link(node.mapped(), chain.back().base(), directory);
    chain.push_back(std::move(node.mapped()));
    if (chain.back().type() != proto::BACKUP_TYPE_INCREMENTAL) break;
    wanted = chain.back().base().directory();
  }
  if (chain.back().subdirectory() != name->full) {
    throw broken_chain(directory, "It does not begin with the full backup that its name says.");
  }
  std::ranges::reverse(chain);
  return chain;
}

bool ends_later(const proto::Manifest& one, const proto::Manifest& other) {
  if (one.instance().system_identifier() != other.instance().system_identifier()) return false;
  if (one.stop().timeline() == other.stop().timeline()) {
    return one.stop().position() > other.stop().position();
  }
  return one.end_time_us() > other.end_time_us();
}

const proto::Manifest& latest_layer(const std::vector<proto::Manifest>& layers) {
  HF_ASSERT(!layers.empty());
  const proto::Manifest* latest = &layers.front();
  for (const proto::Manifest& layer : layers) {
    // Of equal ones the last by name, as it was made last.
    if (!ends_later(*latest, layer)) latest = &layer;
  }
  return *latest;
}

std::vector<std::vector<proto::Manifest>> branches(std::string_view full,
                                                   const std::vector<proto::Manifest>& layers) {
  std::map<std::string_view, const proto::Manifest*> by_directory;
  std::set<std::string_view> continued;
  for (const proto::Manifest& layer : layers) {
    by_directory[layer.subdirectory()] = &layer;
    if (layer.has_base()) continued.insert(layer.base().directory());
  }
  std::vector<std::vector<proto::Manifest>> found;
  for (const proto::Manifest& last : layers) {
    if (continued.contains(last.subdirectory())) continue;
    std::vector<proto::Manifest> chain{last};
    while (chain.back().has_base()) {
      const auto& reference = chain.back().base();
      const auto base = by_directory.find(reference.directory());
      // A full's name sorts before those of all its incrementals.
      if (base == by_directory.end() || reference.directory() >= chain.back().subdirectory()) {
        throw broken_chain(last.subdirectory(),
                           fmt::format("Layer \"{}\", which \"{}\" continues, is missing.",
                                       reference.directory(), chain.back().subdirectory()));
      }
      check_link(*base->second, reference, last.subdirectory());
      chain.push_back(*base->second);
    }
    if (chain.back().subdirectory() != full) {
      throw broken_chain(last.subdirectory(),
                         fmt::format("It begins with \"{}\", not with the full backup \"{}\".",
                                     chain.back().subdirectory(), full));
    }
    std::ranges::reverse(chain);
    found.push_back(std::move(chain));
  }
  return found;
}

std::uint32_t next_file_id(const proto::Manifest& manifest) {
  std::uint32_t next = std::max(1U, manifest.next_file_id());
  for (const proto::File& file : manifest.files()) next = std::max(next, file.id() + 1);
  for (const proto::Pack& pack : manifest.packs()) next = std::max(next, pack.last_file() + 1);
  return next;
}

}  // namespace holdfast::collection
