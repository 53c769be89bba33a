#include "backup/wal_cleanup.h"

#include <fmt/core.h>

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
#include "collection/format.h"

namespace holdfast::backup {

namespace {

using SegmentName = std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>;

/// Subdirectories below the collection's date directories, finished or not.
std::set<std::string> all_subdirectories(storage::ObjectStore& store, const Stop& stop) {
  std::set<std::string> found;
  for (const std::string& year : store.list_directories("", stop)) {
    if (year.find_first_not_of("0123456789") != std::string::npos) continue;
    for (const std::string& month : store.list_directories(year, stop)) {
      const std::string directory = fmt::format("{}/{}", year, month);
      for (const std::string& day : store.list_directories(directory, stop)) {
        const std::string subdirectory = fmt::format("{}/{}", directory, day);
        if (collection::parse_subdirectory(subdirectory)) found.insert(subdirectory);
      }
    }
  }
  return found;
}

/// Whether nothing but keys is there: a statement made them, and its job never began.
bool has_keys_only(storage::ObjectStore& store, const std::string& directory, const Stop& stop) {
  const std::string start = fmt::format("{}/{}", directory, collection::kEncryptionInfoName);
  bool only = true;
  store.list(
      directory, [&](const storage::ObjectInfo& info) { only &= info.key.starts_with(start); },
      stop);
  return only;
}

std::vector<std::string> unfinished_incrementals(storage::ObjectStore& store, const Stop& stop) {
  std::vector<std::string> found;
  for (const std::string& full : collection::list_fulls_with_incrementals(store, stop)) {
    const std::string above = collection::incrementals_of(full);
    for (const std::string& day : store.list_directories(above, stop)) {
      for (const std::string& time : store.list_directories(above + "/" + day, stop)) {
        std::string layer = above + "/" + day + "/" + time;
        if (collection::parse_incremental_directory(layer) &&
            !store.stat(collection::manifest_key(layer), stop)) {
          found.push_back(std::move(layer));
        }
      }
    }
  }
  return found;
}

/// Absent when a backup's manifest is encrypted with a key that is not at hand.
std::optional<std::set<SegmentName>> needed_segments(storage::ObjectStore& store,
                                                     const std::vector<std::string>& fulls,
                                                     const Stop& stop) {
  std::set<SegmentName> needed;
  try {
    for (const std::string& full : fulls) {
      for (const auto& layer :
           collection::read_manifests(store, collection::list_layers(store, full, stop), stop)) {
        for (const auto& segment : layer.wal()) {
          needed.emplace(layer.instance().system_identifier(), segment.timeline(),
                         segment.segment());
        }
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

void remove_unneeded_wal(storage::ObjectStore& store, std::string_view subdirectory,
                         const proto::BackupJobCheckpoint& checkpoint, const Stop& stop) {
  if (checkpoint.wal_size() == 0) return;
  const auto fulls = collection::list_fulls(store, stop);
  const std::set<std::string> finished(fulls.begin(), fulls.end());
  for (const std::string& other : all_subdirectories(store, stop)) {
    if (other != subdirectory && !finished.contains(other) && !has_keys_only(store, other, stop)) {
      log::info("keeping archived WAL because \"{}\" has an unfinished backup", other);
      return;
    }
  }

  // And incremental layers that are being written.
  for (const std::string& other : unfinished_incrementals(store, stop)) {
    if (other != subdirectory) {
      log::info("keeping archived WAL because \"{}\" is unfinished", other);
      return;
    }
  }

  const auto needed = needed_segments(store, fulls, stop);
  if (!needed) return;
  for (const auto& range : checkpoint.wal()) {
    for (std::uint64_t segment = range.first(); segment <= range.last(); ++segment) {
      // Asked for each: an archive that begins meanwhile counts what it finds as archived.
      if (collection::is_wal_archive(store, range.system_identifier(), stop)) break;
      if (needed->contains({range.system_identifier(), range.timeline(), segment})) continue;
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
