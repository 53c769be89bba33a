#include "collection/survey.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/deletion_marks.h"
#include "collection/format.h"
#include "collection/incremental_location.h"
#include "collection/names_internal.h"
#include "collection/wal_archive.h"

namespace holdfast::collection {

namespace {

using storage::ObjectStore;

/// Waits for the storage more than for the processor.
constexpr std::size_t kRemovers = 8;

/// What is in one layer's directory.
struct Contents {
  std::map<std::string, std::uint64_t> objects;  // by key
  std::uint64_t bytes = 0;
  bool finished = false;
  std::vector<std::int64_t> locks;
  Time newest_sign{};
};

/// The microseconds in the name of a checkpoint.
std::optional<Time> checkpoint_time(std::string_view name) {
  const std::string prefix = fmt::format("{}/{}", kProgressDirectory, kCheckpointPrefix);
  if (!name.starts_with(prefix)) return std::nullopt;
  const auto number = parse_inverted_hex(name.substr(prefix.size()));
  if (!number) return std::nullopt;
  return time_from_us(static_cast<std::int64_t>(*number));
}

void add(Contents& contents, std::string_view name, const storage::ObjectInfo& info) {
  contents.objects.emplace(info.key, info.size);
  contents.bytes += info.size;
  if (name == kManifestName) contents.finished = true;
  if (name.starts_with(kLockPrefix)) {
    const std::string_view digits = name.substr(kLockPrefix.size());
    std::int64_t job = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), job);
    contents.locks.push_back(job);
  }
  if (const auto time = checkpoint_time(name)) {
    contents.newest_sign = std::max(contents.newest_sign, *time);
  }
}

/// The full and everything below incrementals/<full>, by layer. Objects elsewhere are not ours.
std::map<std::string, Contents> list_contents(ObjectStore& store, const std::string& full,
                                              const Stop& stop) {
  std::map<std::string, Contents> found;
  const auto visit = [&](std::size_t directory_bytes, const storage::ObjectInfo& info) {
    if (info.key.size() <= directory_bytes + 1 || info.key[directory_bytes] != '/') return;
    const std::string directory = info.key.substr(0, directory_bytes);
    if (!is_layer_directory(directory) || is_of_other_collection(full, info.key)) return;
    auto [contents, is_new] = found.try_emplace(directory);
    if (is_new) {
      const auto incremental = parse_incremental_directory(directory);
      contents->second.newest_sign =
          incremental ? incremental->time : *parse_subdirectory(directory);
    }
    add(contents->second, std::string_view(info.key).substr(directory_bytes + 1), info);
  };
  // Incrementals first: their directories are as long as this one.
  const std::size_t longest = incremental_directory(full, Time()).size();
  store.list(
      incrementals_of(full), [&](const auto& info) { visit(longest, info); }, stop);
  store.list(
      full, [&](const auto& info) { visit(full.size(), info); }, stop);
  return found;
}

/// A pack that is not there, or not of its size.
std::string first_missing_pack(const proto::Manifest& layer, const Contents& contents) {
  for (const proto::Pack& pack : layer.packs()) {
    std::string key = pack_key(layer.subdirectory(), pack.number());
    const auto there = contents.objects.find(key);
    if (there == contents.objects.end() || there->second != pack.size()) return key;
  }
  return {};
}

void strip(proto::Manifest& manifest) {
  manifest.clear_files();
  manifest.clear_directories();
  manifest.clear_objects();
}

}  // namespace

Time SurveyedChain::start() const {
  return layers.empty() ? *parse_subdirectory(full) : time_from_us(layers.front().start_time_us());
}

Time SurveyedChain::end() const {
  if (layers.empty()) return start();
  // Not start(): a full of an earlier moment began after its end.
  const auto newest = std::ranges::max_element(layers, {}, &proto::Manifest::end_time_us);
  return time_from_us(newest->end_time_us());
}

Survey Surveyor::survey(const Stop& stop) {
  const auto directories = list_full_directories(store_, stop);
  std::set<std::string> fulls(directories.begin(), directories.end());
  for (std::string& full : list_fulls_with_incrementals(store_, stop)) {
    fulls.insert(std::move(full));
  }
  Survey survey;
  for (const std::string& full : fulls) look_into(full, survey, stop);
  return survey;
}

std::optional<SurveyedChain> Surveyor::chain(const std::string& full, const Stop& stop) {
  Survey survey;
  look_into(full, survey, stop);
  if (survey.chains.empty()) return std::nullopt;
  SurveyedChain& chain = survey.chains.front();
  if (chain.restorable()) chain.missing = first_missing_wal(chain.layers.front(), stop);
  return std::move(chain);
}

void Surveyor::look_into(const std::string& full, Survey& survey, const Stop& stop) {
  stop.check();
  // Before the objects: a mark goes after all else of its chain.
  const auto marks = deletion_marks(store_, full, stop);
  const auto contents = list_contents(store_, full, stop);
  const auto own = contents.find(full);
  const bool exists = own != contents.end() && own->second.finished;
  SurveyedChain chain{.full = full, .marks = marks};
  std::vector<std::string> directories;
  for (const auto& [directory, layer] : contents) {
    chain.bytes += layer.bytes;
    chain.locks.insert(chain.locks.end(), layer.locks.begin(), layer.locks.end());
    if (!layer.locks.empty()) {
      chain.newest_sign = std::max(chain.newest_sign.value_or(Time()), layer.newest_sign);
    }
    if (layer.finished) {
      directories.push_back(directory);
    } else {
      survey.unfinished.push_back({.directory = directory,
                                   .bytes = layer.bytes,
                                   .locks = layer.locks,
                                   .newest_sign = layer.newest_sign,
                                   .of_deleted_chain = !exists && !marks.empty()});
    }
  }
  if (!exists) return;
  if (own->second.objects.contains(incremental_location_key(full))) {
    if (const auto place = hidden_incrementals(store_, full, Viewer::Administrator, stop)) {
      chain.unreadable = fmt::format("its incremental backups are in {}", *place);
      survey.chains.push_back(std::move(chain));
      return;
    }
  }
  // "2026/…" sorts before "incrementals/…".
  std::ranges::sort(directories);
  read_layers(directories, chain, stop);
  if (chain.unreadable.empty()) {
    chain.missing = first_missing_pack(chain.layers.front(), own->second);
  }
  survey.chains.push_back(std::move(chain));
}

void Surveyor::read_layers(const std::vector<std::string>& directories, SurveyedChain& chain,
                           const Stop& stop) {
  std::vector<std::string> unknown;
  for (const std::string& directory : directories) {
    if (!known_.contains(directory)) unknown.push_back(directory);
  }
  try {
    std::vector<proto::Manifest> read = read_manifests(store_, unknown, stop);
    for (std::size_t i = 0; i < unknown.size(); ++i) {
      if (read[i].subdirectory() != unknown[i]) {
        chain.unreadable = fmt::format("the manifest of \"{}\" belongs elsewhere", unknown[i]);
        return;
      }
      strip(read[i]);
      known_.emplace(unknown[i], std::move(read[i]));
    }
  } catch (const Error& error) {
    if (error.retry_is_safe()) throw;
    chain.unreadable = error.message();
    return;
  }
  for (const std::string& directory : directories) chain.layers.push_back(known_.at(directory));
}

std::string Surveyor::first_missing_wal(const proto::Manifest& layer, const Stop& stop) {
  for (const proto::WalSegment& segment : layer.wal()) {
    const WalSegmentId id = wal_segment_of(layer, segment);
    if (!stat_wal_segment(store_, id, stop)) return wal_segment_key(id);
  }
  return {};
}

std::uint64_t remove_objects(ObjectStore& store, const std::vector<storage::ObjectKey>& keys,
                             const Stop& stop) {
  std::atomic<std::size_t> next = 0;
  std::atomic<std::uint64_t> kept = 0;
  run_workers(std::clamp<std::size_t>(keys.size(), 1, kRemovers), stop,
              [&](std::size_t, const Stop& worker_stop) {
                for (std::size_t i = next++; i < keys.size(); i = next++) {
                  worker_stop.check();
                  if (!storage::remove_if_allowed(store, keys[i], worker_stop)) ++kept;
                }
              });
  return kept;
}

}  // namespace holdfast::collection
