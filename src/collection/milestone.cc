#include "collection/milestone.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <map>
#include <tuple>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "milestone.pb.h"

namespace holdfast::collection {

namespace {

constexpr std::size_t kMilestoneReaders = 8;

template <typename Number>
std::optional<Number> parse_hex(std::string_view digits) {
  Number number = 0;
  const auto [end, failure] =
      std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  if (failure != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

std::string name_of(const MilestonePlace& place) {
  return fmt::format("{:08X}.{:016X}{}", place.timeline, place.lsn.value, kMilestoneSuffix);
}

/// In the order of history: after a restore to an earlier moment the server goes on on a later
/// timeline, and its clock may be set back.
auto order(const MilestonePlace& place) { return std::tuple(place.timeline, place.lsn); }

Error corrupt_milestone(std::string_view key, std::string_view why) {
  return Error(sqlstate::kDataCorrupted, fmt::format("milestone \"{}\" is corrupt", key))
      .detail(std::string(why));
}

/// Absent when it was removed since it was listed.
std::optional<Milestone> get(storage::ObjectStore& store, const storage::ObjectKey& key,
                             const MilestonePlace& place, const Stop& stop) {
  const auto stored = storage::get_whole(store, key, kMaxMilestoneBytes, stop);
  if (!stored) return std::nullopt;
  const Bytes plain = open_envelope(*stored, key);
  proto::Milestone read;
  if (!read.ParseFromArray(plain.data(), static_cast<int>(plain.size()))) {
    throw corrupt_milestone(key, "It cannot be read.");
  }
  if (read.timeline() != place.timeline || read.lsn() != place.lsn.value || read.name().empty()) {
    throw corrupt_milestone(key, "It belongs to another place.");
  }
  return Milestone{.name = read.name(),
                   .database = read.database(),
                   .user = read.user(),
                   .time = time_from_us(read.time_us()),
                   .timeline = place.timeline,
                   .lsn = place.lsn};
}

/// The places of all, those that were replaced included.
std::vector<MilestonePlace> list_places(storage::ObjectStore& store,
                                        std::uint64_t system_identifier, const Stop& stop) {
  const std::string directory = milestone_directory(system_identifier);
  std::vector<MilestonePlace> places;
  store.list(
      directory,
      [&](const storage::ObjectInfo& info) {
        const auto name = std::string_view(info.key).substr(directory.size() + 1);
        if (const auto place = parse_milestone_name(name)) places.push_back(*place);
      },
      stop);
  std::ranges::sort(places, {}, order);
  return places;
}

/// All, in order.
std::vector<Milestone> read_all(storage::ObjectStore& store, std::uint64_t system_identifier,
                                const Stop& stop) {
  const auto places = list_places(store, system_identifier, stop);
  std::vector<std::optional<Milestone>> found(places.size());
  std::atomic<std::size_t> drawn = 0;
  run_workers(
      std::min(kMilestoneReaders, places.size()), stop, [&](std::size_t, const Stop& worker_stop) {
        for (std::size_t i = drawn++; i < places.size(); i = drawn++) {
          found[i] = get(store, milestone_key(system_identifier, places[i].timeline, places[i].lsn),
                         places[i], worker_stop);
        }
      });
  std::vector<Milestone> all;
  for (auto& one : found) {
    if (one) all.push_back(*std::move(one));
  }
  return all;
}

}  // namespace

std::string milestone_directory(std::uint64_t system_identifier) {
  return fmt::format("{}/{}/{}", kWalDirectory, system_identifier, kMilestoneDirectory);
}

storage::ObjectKey milestone_key(std::uint64_t system_identifier, postgres::TimelineId timeline,
                                 postgres::Lsn lsn) {
  return fmt::format("{}/{}", milestone_directory(system_identifier),
                     name_of({.timeline = timeline, .lsn = lsn}));
}

std::optional<MilestonePlace> parse_milestone_name(std::string_view name) {
  constexpr std::size_t kTimelineDigits = 8;
  constexpr std::size_t kLsnDigits = 16;
  if (name.size() != kTimelineDigits + 1 + kLsnDigits + kMilestoneSuffix.size()) {
    return std::nullopt;
  }
  const auto timeline = parse_hex<postgres::TimelineId>(name.substr(0, kTimelineDigits));
  const auto lsn = parse_hex<std::uint64_t>(name.substr(kTimelineDigits + 1, kLsnDigits));
  if (!timeline || !lsn) return std::nullopt;
  const MilestonePlace place{.timeline = *timeline, .lsn = postgres::Lsn{*lsn}};
  // Only the spelling that is written: two names must not stand for one place.
  if (name_of(place) != name) return std::nullopt;
  return place;
}

void put_milestone(storage::ObjectStore& store, std::uint64_t system_identifier,
                   const Milestone& milestone, const Stop& stop) {
  proto::Milestone written;
  written.set_name(milestone.name);
  written.set_database(milestone.database);
  written.set_user(milestone.user);
  written.set_time_us(milestone.time.time_since_epoch().count());
  written.set_timeline(milestone.timeline);
  written.set_lsn(milestone.lsn.value);
  // Taken only by another attempt of this very put: no two restore points end at one place.
  store.put(milestone_key(system_identifier, milestone.timeline, milestone.lsn),
            seal_envelope(as_bytes(written.SerializeAsString())), storage::PutMode::OnlyIfAbsent,
            stop);
  const MilestonePlace place{.timeline = milestone.timeline, .lsn = milestone.lsn};
  for (const Milestone& other : read_all(store, system_identifier, stop)) {
    if (other.name != milestone.name || other.database != milestone.database ||
        order({.timeline = other.timeline, .lsn = other.lsn}) >= order(place)) {
      continue;
    }
    storage::remove_if_allowed(store, milestone_key(system_identifier, other.timeline, other.lsn),
                               stop);
  }
}

std::vector<Milestone> list_milestones(storage::ObjectStore& store, std::uint64_t system_identifier,
                                       const Stop& stop) {
  auto all = read_all(store, system_identifier, stop);
  std::map<std::pair<std::string, std::string>, std::size_t> last;
  for (std::size_t i = 0; i < all.size(); ++i) last[{all[i].database, all[i].name}] = i;
  std::vector<Milestone> kept;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (last.at({all[i].database, all[i].name}) == i) kept.push_back(std::move(all[i]));
  }
  return kept;
}

std::vector<std::uint64_t> list_wal_servers(storage::ObjectStore& store, const Stop& stop) {
  std::vector<std::uint64_t> servers;
  for (const std::string& name : store.list_directories(std::string(kWalDirectory), stop)) {
    std::uint64_t id = 0;
    const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (failure == std::errc() && end == name.data() + name.size()) servers.push_back(id);
  }
  return servers;
}

}  // namespace holdfast::collection
