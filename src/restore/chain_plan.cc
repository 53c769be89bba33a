#include "restore/chain_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <unordered_set>

#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/collection.h"

namespace holdfast::restore {
namespace {

using collection::FrameEntry;

/// Frames of a group at most: a new file of a gigabyte is work for several workers.
constexpr std::size_t kGroupFrames = 64;
/// And stored bytes, where there is more than one frame.
constexpr std::uint64_t kGroupBytes = 8U << 20;

Error held_twice(const FrameEntry& entry, const std::string& key) {
  return Error(sqlstate::kDataCorrupted,
               fmt::format("object \"{}\" holds frame {} of file {}, which another one holds too",
                           key, entry.frame, entry.file_id));
}

std::pair<std::size_t, std::uint32_t> place_of(const WantedFrame& piece) {
  return {piece.claim.file, piece.entry.frame};
}

}  // namespace

ChainPlan::ChainPlan(std::span<const collection::proto::Manifest> chain, const Layout& layout,
                     storage::ObjectStore& store)
    : chain_(chain), layout_(layout), store_(store), claims_(layout) {
  for (const FileTarget& file : layout.files) file_ids_.push_back(file.id);
  std::ranges::sort(file_ids_);
  for (const auto& layer : chain) {
    const auto& uuid = layer.backup_uuid();
    if (uuid.size() != sizeof(collection::BackupUuid)) {
      throw Error(sqlstate::kDataCorrupted, "backup manifest has no valid identifier");
    }
    std::memcpy(uuids_.emplace_back().data(), uuid.data(), uuid.size());
  }
  for (std::size_t layer = chain.size(); layer-- > 1;) add_packs(layer, incrementals_);
  add_packs(0, full_);
}

void ChainPlan::add_packs(std::size_t layer, std::vector<std::size_t>& to) {
  for (const auto& pack : chain_[layer].packs()) {
    if (!may_be_wanted(pack)) continue;
    to.push_back(packs_.size());
    packs_.push_back({.layer = layer,
                      .record = &pack,
                      .key = collection::pack_key(chain_[layer].subdirectory(), pack.number())});
  }
}

/// False for a pack whose index need not be read, because all its files are left out.
bool ChainPlan::may_be_wanted(const collection::proto::Pack& pack) const {
  if (!layout_.partial) return true;
  const auto first = std::ranges::lower_bound(file_ids_, pack.first_file());
  return first != file_ids_.end() && *first <= pack.last_file();
}

/// The entries that count.
std::vector<FrameEntry> ChainPlan::read_index(const Pack& pack, const Stop& stop) const {
  auto entries = collection::read_pack_index(store_, pack.key, collection::summary_of(*pack.record),
                                             uuids_[pack.layer], stop);
  const std::unordered_set<std::uint32_t> superseded(pack.record->superseded().begin(),
                                                     pack.record->superseded().end());
  std::uint32_t position = 0;
  std::erase_if(entries, [&](const FrameEntry&) { return superseded.contains(position++); });
  return entries;
}

void ChainPlan::claim(const FrameEntry& entry, std::size_t pack, std::vector<WantedFrame>& to) {
  if (!claims_.wants(entry.file_id)) return;
  const storage::ObjectKey& object = packs_[pack].key;
  const bool target = packs_[pack].layer + 1 == chain_.size();
  const auto claim =
      claims_.claim(entry, target ? BlockClaims::Layer::Target : BlockClaims::Layer::Older, object);
  if (entry.stored_bytes > kMaxStoredBytes) {
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("object \"{}\" holds an impossible frame {} of file {}", object,
                            entry.frame, entry.file_id));
  }
  if (target && claim.blocks.none()) throw held_twice(entry, object);
  if (claim.blocks.any()) to.push_back({.entry = entry, .claim = claim, .pack = pack});
}

/// Claims go from the newest layer to the oldest: nothing of a layer can be fetched before all
/// newer ones have claimed.
void ChainPlan::read_incrementals(std::size_t workers, const Stop& stop) {
  std::vector<std::vector<FrameEntry>> indexes(incrementals_.size());
  std::atomic<std::size_t> next = 0;
  run_workers(workers, stop, [&](std::size_t, const Stop& worker_stop) {
    for (std::size_t i = next++; i < indexes.size(); i = next++) {
      worker_stop.check();
      indexes[i] = read_index(packs_[incrementals_[i]], worker_stop);
    }
  });
  std::size_t layer = chain_.size();
  std::unordered_set<std::uint64_t> in_layer;
  for (std::size_t i = 0; i < indexes.size(); ++i) {
    stop.check();
    const Pack& pack = packs_[incrementals_[i]];
    if (pack.layer != layer) in_layer.clear();
    layer = pack.layer;
    for (const FrameEntry& entry : indexes[i]) {
      if (!in_layer.insert(std::uint64_t{entry.file_id} << 32 | entry.frame).second) {
        throw held_twice(entry, pack.key);
      }
      claim(entry, incrementals_[i], pieces_);
    }
    indexes[i] = {};
  }
  std::ranges::stable_sort(pieces_, {}, place_of);
  find_frames();
  find_groups();
}

void ChainPlan::find_frames() {
  for (std::size_t first = 0, last = 0; first < pieces_.size(); first = last) {
    while (last < pieces_.size() && place_of(pieces_[last]) == place_of(pieces_[first])) ++last;
    const auto [file, frame] = place_of(pieces_[first]);
    if (claims_.complete(file, frame)) alone_.push_back(frames_.size());
    frames_.push_back({.file = file, .frame = frame, .first = first, .last = last});
  }
}

void ChainPlan::find_groups() {
  for (std::size_t first = 0, last = 0; first < alone_.size(); first = last) {
    std::uint64_t stored = 0;
    for (; last < alone_.size() && last - first < kGroupFrames; ++last) {
      const Frame& frame = frames_[alone_[last]];
      for (std::size_t i = frame.first; i < frame.last; ++i)
        stored += pieces_[i].entry.stored_bytes;
      if (last > first && stored > kGroupBytes) break;
    }
    groups_.emplace_back(first, last);
  }
}

std::vector<WantedFrame> ChainPlan::claim_full_pack(std::size_t number, const Stop& stop) {
  std::vector<WantedFrame> wanted;
  for (const FrameEntry& entry : read_index(packs_[full_[number]], stop)) {
    claim(entry, full_[number], wanted);
  }
  return wanted;
}

std::span<const WantedFrame> ChainPlan::pieces_of(std::size_t file, std::uint32_t frame) const {
  const auto wanted = std::pair(file, frame);
  const auto place = [](const Frame& one) { return std::pair(one.file, one.frame); };
  const auto found = std::ranges::lower_bound(frames_, wanted, {}, place);
  if (found == frames_.end() || place(*found) != wanted) return {};
  return std::span(pieces_).subspan(found->first, found->last - found->first);
}

std::vector<std::span<const WantedFrame>> ChainPlan::frames_of_group(std::size_t group) const {
  std::vector<std::span<const WantedFrame>> frames;
  for (std::size_t i = groups_[group].first; i < groups_[group].second; ++i) {
    const Frame& frame = frames_[alone_[i]];
    frames.push_back(std::span(pieces_).subspan(frame.first, frame.last - frame.first));
  }
  return frames;
}

void ChainPlan::require_complete() const { claims_.require_complete(chain_.back().subdirectory()); }

}  // namespace holdfast::restore
