#include "backup/source_changes.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/format.h"

namespace holdfast::backup {

namespace {

/// A disk that has lost this many pages needs other help; keeping all of them would take memory
/// without bound.
constexpr std::size_t kMaxSuspects = 100'000;

/// "base/5/16384.2" is segment 2 of "base/5/16384".
struct SegmentPath {
  std::string_view fork;
  std::uint32_t number = 0;
};
SegmentPath split(std::string_view path) {
  SegmentPath result{path};
  const std::size_t dot = path.rfind('.');
  if (dot == std::string_view::npos || dot < path.rfind('/')) return result;
  const char* end = path.data() + path.size();
  const auto parsed = std::from_chars(path.data() + dot + 1, end, result.number);
  if (parsed.ec == std::errc() && parsed.ptr == end) result.fork = path.substr(0, dot);
  return result;
}

/// A fork that ends in one of its segments has nothing in higher ones, whenever those were read.
/// Recovery replays the truncation only up to the first short segment, and would find old blocks in
/// the next ones once the fork grows again.
void empty_higher_segments(FileTable& files, std::size_t position) {
  const std::string path = files.path(position);
  const SegmentPath own = split(path);
  // Segments of one fork are neighbours in path order, though ".10" comes before ".2".
  const auto empty = [&](std::size_t other) {
    const std::string other_path = files.path(other);
    if (!other_path.starts_with(own.fork)) return false;
    const SegmentPath segment = split(other_path);
    if (segment.fork == own.fork && segment.number > own.number) files[other].size = 0;
    return true;
  };
  for (std::size_t i = position + 1; i < files.size() && empty(i); ++i) {
  }
  for (std::size_t i = position; i > 0 && empty(i - 1); --i) {
  }
}

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
  for (const auto& entry : shortened_) {
    if (files.kind(entry.first) == collection::proto::FILE_KIND_RELATION) {
      empty_higher_segments(files, entry.first);
    }
  }
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
