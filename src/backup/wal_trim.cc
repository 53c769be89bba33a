#include "backup/wal_trim.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "collection/format.h"
#include "collection/milestone.h"
#include "collection/new_layers.h"
#include "collection/wal_archive.h"

namespace holdfast::backup {

namespace {

/// An archive, or a backup, that begins meanwhile is noticed this often.
constexpr std::size_t kTrimBatch = 64;

/// What the chains of one cluster need.
struct Needs {
  std::uint64_t segment_bytes = 0;
  /// LSN: WAL from here on is needed, or may be restored to; absent: by no chain here.
  std::optional<std::uint64_t> oldest_start = std::nullopt;
  std::uint64_t oldest_map = UINT64_MAX;  // LSN: maps from here on serve the next layers
  std::uint64_t newest_stop = 0;          // LSN
  std::set<std::pair<std::uint32_t, std::uint64_t>> segments;  // timeline, number
  bool unsure = false;
};

std::map<std::uint64_t, Needs> needs_of(const collection::Survey& survey) {
  std::map<std::uint64_t, Needs> all;
  for (const collection::SurveyedChain& chain : survey.chains) {
    for (const auto& layer : chain.layers) {
      Needs& needs = all[layer.instance().system_identifier()];
      const std::uint64_t bytes = layer.instance().wal_segment_bytes();
      const std::uint64_t start = layer.start().position();
      if (needs.segment_bytes == 0) needs.segment_bytes = bytes;
      // pg_resetwal can change the size of segments, and then their names mean something else.
      if (bytes == 0 || bytes != needs.segment_bytes || start == 0) needs.unsure = true;
      needs.newest_stop = std::max(needs.newest_stop, layer.stop().position());
      // A layer with WAL of its own needs none of the archive's; what goes on from the chain's last
      // one looks for maps from its start on.
      if (!layer.wal_directory().empty()) {
        if (&layer == &chain.layers.back()) needs.oldest_map = std::min(needs.oldest_map, start);
        continue;
      }
      needs.oldest_map = std::min(needs.oldest_map, start);
      needs.oldest_start = std::min(needs.oldest_start.value_or(start), start);
      for (const auto& segment : layer.wal()) {
        needs.segments.emplace(segment.timeline(), segment.segment());
      }
    }
  }
  return all;
}

std::set<std::string> layers_of(const collection::Survey& survey) {
  std::set<std::string> directories;
  for (const collection::SurveyedChain& chain : survey.chains) {
    for (const auto& layer : chain.layers) directories.insert(layer.subdirectory());
  }
  return directories;
}

enum class Kind {
  FirstPart,  ///< without it there is no segment
  LaterPart,
  Map,
  Tail
};

struct WalObject {
  storage::ObjectInfo info;
  Kind kind = Kind::FirstPart;
  std::uint32_t timeline = 0;
  std::uint32_t high = 0;  // of the segment's number
  std::uint32_t low = 0;
};

std::optional<std::uint32_t> parse_hex(std::string_view digits) {
  std::uint32_t number = 0;
  const auto [end, failure] =
      std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  if (failure != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

/// Absent for names that we give no object.
std::optional<WalObject> parse(std::string_view directory, const storage::ObjectInfo& info) {
  constexpr std::size_t kNameBytes = 24;
  const std::string_view name = std::string_view(info.key).substr(directory.size() + 1);
  if (name.size() <= kNameBytes || name[kNameBytes] != '.') return std::nullopt;
  const auto timeline = parse_hex(name.substr(0, 8));
  const auto high = parse_hex(name.substr(8, 8));
  const auto low = parse_hex(name.substr(16, 8));
  const std::string_view suffix = name.substr(kNameBytes);
  if (!timeline || !high || !low) return std::nullopt;
  WalObject object{.info = info, .timeline = *timeline, .high = *high, .low = *low};
  if (suffix == collection::kWalSuffix) {
    object.kind = Kind::FirstPart;
  } else if (suffix.ends_with(collection::kWalSuffix)) {
    object.kind = Kind::LaterPart;
  } else if (suffix == collection::kBlockMapSuffix) {
    object.kind = Kind::Map;
  } else if (suffix.ends_with(collection::kWalTailSuffix)) {
    object.kind = Kind::Tail;
  } else {
    return std::nullopt;
  }
  return object;
}

enum class Archive { Kept, None };

bool removable(const WalObject& object, const Needs* needs, Archive archive) {
  // No chain of this cluster, and no archive: nothing reads it.
  if (needs == nullptr) return true;
  const std::uint64_t segment = object.high * (0x100000000ULL / needs->segment_bytes) + object.low;
  if (needs->segments.contains({object.timeline, segment})) return false;
  if (object.kind == Kind::Map) return segment < needs->oldest_map / needs->segment_bytes;
  if (archive == Archive::Kept || object.kind == Kind::Tail) {
    // An archive without a chain that it belongs to may wait for its first full.
    return needs->oldest_start && segment < *needs->oldest_start / needs->segment_bytes;
  }
  // A backup that begins now nearly always begins behind the end of the newest, and may find its
  // first segment there already: that one stays. Where it begins before (a standby's begins at its
  // last restartpoint; on a new timeline positions are lower), its lock ends the trimming, and it
  // looks for its WAL before its manifest.
  return segment < needs->newest_stop / needs->segment_bytes;
}

class Trimmer {
 public:
  Trimmer(storage::ObjectStore& store, std::uint64_t system_identifier, const Needs* needs,
          const collection::NewLayers& newer, const Stop& stop)
      : store_(store), id_(system_identifier), needs_(needs), newer_(newer), stop_(stop) {}

  /// False when a backup began meanwhile: nothing more may go.
  bool may_go_on() const { return !began_; }

  TrimmedWal trim() {
    archive_ = archive_now();
    TrimmedWal trimmed{.system_identifier = id_};
    if (!may_remove()) return trimmed;
    const std::string above = fmt::format("{}/{}", collection::kWalDirectory, id_);
    for (const std::string& timeline : store_.list_directories(above, stop_)) {
      if (!trim_directory(fmt::format("{}/{}", above, timeline), trimmed)) return trimmed;
    }
    // Last: what a crash leaves is a milestone that cannot be restored, and is said to be so.
    trim_milestones(trimmed);
    return trimmed;
  }

 private:
  Archive archive_now() {
    return collection::is_wal_archive(store_, id_, stop_) ? Archive::Kept : Archive::None;
  }
  bool may_remove() const {
    if (needs_ == nullptr) return archive_ == Archive::None;
    return !needs_->unsure;
  }

  /// Whether somebody began to count on what he finds: a WAL archive, or a backup.
  bool is_counted_on() {
    if (archive_ == Archive::None && archive_now() == Archive::Kept) return true;
    const auto layer = newer_.find(stop_);
    if (!layer) return false;
    log::info("keeping the rest of the archived WAL because backup \"{}\" began meanwhile", *layer);
    began_ = true;
    return true;
  }

  /// False when it has to end.
  bool trim_directory(const std::string& directory, TrimmedWal& trimmed) {
    std::vector<WalObject> objects;
    store_.list(
        directory,
        [&](const storage::ObjectInfo& info) {
          auto object = parse(directory, info);
          if (object && removable(*object, needs_, archive_)) objects.push_back(std::move(*object));
        },
        stop_);
    // First parts first, oldest first: what a crash leaves is an archive that begins later.
    std::ranges::sort(objects, {}, [](const WalObject& object) {
      return std::tuple(object.kind != Kind::FirstPart, object.high, object.low, object.info.key);
    });
    std::size_t count = 0;
    for (std::size_t at = 0; at < objects.size(); at += count) {
      if (is_counted_on()) return false;
      // Those of a batch go at once, in no order.
      const bool first_parts = objects[at].kind == Kind::FirstPart;
      count = 1;
      while (count < kTrimBatch && at + count < objects.size() &&
             (objects[at + count].kind == Kind::FirstPart) == first_parts) {
        ++count;
      }
      std::vector<storage::ObjectKey> keys;
      std::uint64_t bytes = 0;
      for (std::size_t i = at; i < at + count; ++i) {
        keys.push_back(objects[i].info.key);
        bytes += objects[i].info.size;
      }
      const std::uint64_t refused = collection::remove_objects(store_, keys, stop_);
      trimmed.refused += refused;
      trimmed.objects += count - refused;
      // Which of them stayed is not known: counted only when all went.
      if (refused == 0) trimmed.bytes += bytes;
    }
    return true;
  }

  /// Those from before the WAL that is kept.
  void trim_milestones(TrimmedWal& trimmed) {
    const std::string directory = collection::milestone_directory(id_);
    std::vector<storage::ObjectKey> keys;
    std::uint64_t bytes = 0;
    store_.list(
        directory,
        [&](const storage::ObjectInfo& info) {
          const auto place = collection::parse_milestone_name(
              std::string_view(info.key).substr(directory.size() + 1));
          if (!place) return;
          const bool needed = needs_ != nullptr &&
                              (!needs_->oldest_start || place->lsn.value >= *needs_->oldest_start);
          if (needed) return;
          keys.push_back(info.key);
          bytes += info.size;
        },
        stop_);
    if (keys.empty()) return;
    const std::uint64_t refused = collection::remove_objects(store_, keys, stop_);
    trimmed.refused += refused;
    trimmed.objects += keys.size() - refused;
    if (refused == 0) trimmed.bytes += bytes;
  }

  storage::ObjectStore& store_;
  const std::uint64_t id_;
  const Needs* needs_;
  const collection::NewLayers& newer_;
  const Stop& stop_;
  Archive archive_ = Archive::None;
  bool began_ = false;
};

}  // namespace

std::vector<TrimmedWal> trim_wal(storage::ObjectStore& store, const collection::Survey& survey,
                                 const Stop& stop) {
  for (const collection::SurveyedChain& chain : survey.chains) {
    if (chain.unreadable.empty()) continue;
    // Even where its ENCRYPTION-INFO says that it has WAL of its own: nothing authenticates that
    // without the chain's key, and who may only add objects must not have WAL deleted by it.
    log::info("keeping archived WAL because backup \"{}\" cannot be read", chain.full);
    return {};
  }
  if (!survey.unfinished.empty()) {
    log::info("keeping archived WAL because \"{}\" is unfinished",
              survey.unfinished.front().directory);
    return {};
  }
  const auto needs = needs_of(survey);
  const collection::NewLayers newer(store, layers_of(survey));
  std::vector<TrimmedWal> all;
  for (const std::string& name :
       store.list_directories(std::string(collection::kWalDirectory), stop)) {
    std::uint64_t id = 0;
    const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (failure != std::errc() || end != name.data() + name.size()) continue;
    const auto found = needs.find(id);
    Trimmer trimmer(store, id, found == needs.end() ? nullptr : &found->second, newer, stop);
    const TrimmedWal trimmed = trimmer.trim();
    if (trimmed.objects > 0 || trimmed.refused > 0) all.push_back(trimmed);
    if (!trimmer.may_go_on()) break;
  }
  return all;
}

}  // namespace holdfast::backup
