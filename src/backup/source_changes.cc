#include "backup/source_changes.h"

#include <algorithm>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/format.h"

namespace holdfast::backup {

namespace {

/// A disk that has lost this many pages needs other help; keeping all of them would take memory
/// without bound.
constexpr std::size_t kMaxSuspects = 100'000;

}  // namespace

void SourceChanges::gone(std::size_t position) {
  MutexLock lock(mutex_);
  gone_.insert(position);
}

bool SourceChanges::is_gone(std::size_t position) const {
  MutexLock lock(mutex_);
  return gone_.contains(position);
}

void SourceChanges::shortened(std::size_t position, std::uint64_t end) {
  MutexLock lock(mutex_);
  auto [entry, added] = shortened_.try_emplace(position, end);
  entry->second = std::min(entry->second, end);
}

void SourceChanges::grown(std::size_t position, std::uint64_t size) {
  MutexLock lock(mutex_);
  grown_[position] = size;
}

void SourceChanges::suspect(const std::vector<postgres::BlockKey>& blocks) {
  if (blocks.empty()) return;
  MutexLock lock(mutex_);
  suspects_.insert(blocks.begin(), blocks.end());
  if (suspects_.size() > kMaxSuspects) {
    throw Error(sqlstate::kDataCorrupted,
                "the data directory has too many pages with a wrong checksum to go on")
        .hint("Look for failing storage in the system log before anything else.");
  }
}

bool SourceChanges::any_file_changed() const {
  MutexLock lock(mutex_);
  return !gone_.empty() || !shortened_.empty() || !grown_.empty();
}

std::set<postgres::BlockKey> SourceChanges::suspects() const {
  MutexLock lock(mutex_);
  return suspects_;
}

void SourceChanges::apply(FileTable& files) const {
  MutexLock lock(mutex_);
  for (const std::size_t position : gone_) files[position].vanished = true;
  for (const auto& [position, end] : shortened_) {
    files[position].size = std::min(files[position].size, end);
  }
  for (const auto& [position, size] : grown_) files[position].size = size;
}

void supersede_changed(const LayerPlace& place, const FileTable& files, PackLedger& ledger,
                       const Stop& stop) {
  std::set<std::uint32_t> changed;  // ids
  for (std::size_t i = 0; i < files.size(); ++i) {
    const bool shorter = files.planned_frames(i) != files.frames(i);
    if (files[i].vanished || shorter) changed.insert(files[i].id);
  }
  if (changed.empty()) return;

  for (const auto& pack : ledger.packs()) {
    const auto first = changed.lower_bound(pack.first_file());
    if (first == changed.end() || *first > pack.last_file()) continue;
    const auto entries = collection::read_pack_index(
        place.store, collection::pack_key(place.directory, pack.number()),
        collection::summary_of(pack), place.uuid, stop);
    std::vector<std::uint32_t> positions;
    for (std::uint32_t i = 0; i < entries.size(); ++i) {
      const auto position = files.find(entries[i].file_id);
      if (!position || files[*position].vanished || entries[i].frame >= files.frames(*position)) {
        positions.push_back(i);
      }
    }
    ledger.supersede(pack.number(), positions);
  }
}

}  // namespace holdfast::backup
