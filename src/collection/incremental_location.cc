#include "collection/incremental_location.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "crypto/digest.h"
#include "crypto/secret_key.h"
#include "incremental_location.pb.h"
#include "storage/external_uri.h"

namespace holdfast::collection {

using storage::ObjectInfo;
using storage::ObjectKey;
using storage::ObjectStore;
using storage::PutMode;
using storage::PutResult;

namespace {

/// "2026/11/20-223000.00"
constexpr std::size_t kFullBytes = 20;

/// The full that a key below incrementals/ belongs to; absent for any other key.
std::optional<std::string> full_of(std::string_view key) {
  const std::size_t prefix = kIncrementalsDirectory.size() + 1;
  if (!key.starts_with(kIncrementalsDirectory) || key.size() < prefix + kFullBytes ||
      key[prefix - 1] != '/') {
    return std::nullopt;
  }
  const std::string_view full = key.substr(prefix, kFullBytes);
  if (key.size() > prefix + kFullBytes && key[prefix + kFullBytes] != '/') return std::nullopt;
  if (full.starts_with('/') || !parse_subdirectory(full)) return std::nullopt;
  return std::string(full);
}

/// What a key, or a prefix, below incrementals/ is called in the other place.
ObjectKey key_elsewhere(std::string_view key) {
  if (key.size() <= kIncrementalsDirectory.size()) return {};
  return ObjectKey(key.substr(kIncrementalsDirectory.size() + 1));
}

ObjectKey key_here(std::string_view elsewhere) {
  return fmt::format("{}/{}", kIncrementalsDirectory, elsewhere);
}

/// "<full>/INCREMENTAL-LOCATION": the full; absent for any other key.
std::optional<std::string> full_of_mark(std::string_view key) {
  if (key.size() != kFullBytes + 1 + kIncrementalLocationName.size() ||
      !key.ends_with(kIncrementalLocationName)) {
    return std::nullopt;
  }
  return std::string(key.substr(0, kFullBytes));
}

std::optional<proto::IncrementalLocation> read_mark(ObjectStore& store, const ObjectKey& key,
                                                    const Stop& stop) {
  const auto stored = get_whole(store, key, kMaxIncrementalLocationBytes, stop);
  if (!stored) return std::nullopt;
  const Bytes plain = open_envelope(*stored, key);
  proto::IncrementalLocation mark;
  if (!mark.ParseFromArray(plain.data(), static_cast<int>(plain.size())) || mark.id().empty()) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("\"{}\" is corrupt", key))
        .detail("It does not say where incremental backups are.");
  }
  return mark;
}

/// What is there afterwards: `mark`, or what somebody else put first.
proto::IncrementalLocation write_mark(ObjectStore& store, const ObjectKey& key,
                                      const proto::IncrementalLocation& mark, const Stop& stop) {
  const Bytes bytes = seal_envelope(as_bytes(mark.SerializeAsString()));
  if (store.put(key, bytes, PutMode::OnlyIfAbsent, stop) == PutResult::Stored) return mark;
  const auto there = read_mark(store, key, stop);
  if (there) return *there;
  throw Error(sqlstate::kObjectInUse, fmt::format("\"{}\" is being removed", key));
}

/// Which full of that name it is. Empty when there is none.
std::string fingerprint(ObjectStore& collection, const std::string& full, const Stop& stop) {
  const auto manifest = get_whole(collection, manifest_key(full), kMaxManifestBytes, stop);
  return manifest ? to_hex(crypto::sha256(*manifest)) : std::string();
}

std::string new_id() { return to_hex(crypto::SecretKey::random().bytes().first(16)); }

std::string shown(const proto::IncrementalLocation& mark, Viewer viewer) {
  const std::string resolved = fmt::format("\"{}\"", mark.description());
  // Administrators see both: another daemon than that which took the backup may not know the
  // connection.
  if (!mark.given().empty()) {
    const std::string given = fmt::format("\"{}\"", mark.given());
    return viewer == Viewer::Administrator ? fmt::format("{} ({})", given, resolved) : given;
  }
  if (viewer == Viewer::Administrator) return resolved;
  return "a place that is shown to administrators";
}

Error tied_elsewhere(const std::string& full, const std::string& given, const std::string& place) {
  return Error(
             sqlstate::kInvalidParameterValue,
             fmt::format("\"{}\" is not where the incremental backups of \"{}\" are", given, full))
      .detail(fmt::format("They are in {}.", place))
      .hint("Give that place as incremental_location, or take a full backup with BACKUP INTO.");
}

}  // namespace

/// Which fulls have layers in the other place. Thread-safe.
class LocatedStore::Tied {
 public:
  Tied(ObjectStore& collection, ObjectStore& elsewhere)
      : collection_(collection), elsewhere_(elsewhere) {}

  bool has(const std::string& full, const Stop& stop) {
    {
      const MutexLock lock(mutex_);
      if (known_.contains(full)) return true;
    }
    // Asked again as long as it is not: another job may tie it at any time.
    const auto mark = read_mark(collection_, incremental_location_key(full), stop);
    if (!mark) return false;
    const auto other = read_mark(elsewhere_, key_elsewhere(full_location_key(full)), stop);
    if (!other || other->id() != mark->id()) return false;
    remember(full);
    return true;
  }

  /// For good: whoever removes the chain removes the marks last, and still has to find the rest.
  void remember(const std::string& full) {
    const MutexLock lock(mutex_);
    known_.insert(full);
  }

 private:
  ObjectStore& collection_;
  ObjectStore& elsewhere_;
  Mutex mutex_;
  std::set<std::string> known_ HF_GUARDED_BY(mutex_);
};

LocatedStore::LocatedStore(std::unique_ptr<ObjectStore> collection,
                           std::unique_ptr<ObjectStore> elsewhere, std::string_view elsewhere_uri)
    : collection_(std::move(collection)),
      elsewhere_(std::move(elsewhere)),
      given_(storage::is_external(elsewhere_uri) ? elsewhere_uri : std::string_view()),
      tied_(std::make_unique<Tied>(*collection_, *elsewhere_)) {
  if (collection_->description() == elsewhere_->description()) {
    throw Error(sqlstate::kInvalidParameterValue,
                "incremental_location cannot be the collection itself")
        .hint("Leave it out: incremental backups are below \"incrementals\" then.");
  }
}

LocatedStore::~LocatedStore() = default;

bool LocatedStore::is_usual_place(const ObjectStore& collection, const ObjectStore& elsewhere) {
  std::string usual = collection.description();
  usual.insert(std::min(usual.find('?'), usual.size()), fmt::format("/{}", kIncrementalsDirectory));
  return elsewhere.description() == usual;
}

std::string LocatedStore::place() const {
  return given_.empty() ? elsewhere_->description() : given_;
}

void LocatedStore::claim(const std::string& full, Claim what, Viewer viewer, const Stop& stop) {
  const ObjectKey here = incremental_location_key(full);
  const ObjectKey there = key_elsewhere(full_location_key(full));
  auto mark = read_mark(*collection_, here, stop);
  auto other = read_mark(*elsewhere_, there, stop);
  if (!mark) {
    if (!other && what == Claim::OnlyCheck) return;
    proto::IncrementalLocation made;
    made.set_id(new_id());
    made.set_description(elsewhere_->description());
    made.set_given(given_);
    made.set_chain(fingerprint(*collection_, full, stop));
    // The other place first: the chain must not be tied to one that cannot be written to.
    if (!other) other = write_mark(*elsewhere_, there, made, stop);
    // That of the same chain is of an attempt that ended between the two.
    const bool own =
        other->id() == made.id() || (!made.chain().empty() && other->chain() == made.chain());
    if (!own) {
      throw Error(sqlstate::kObjectInUse,
                  fmt::format("\"{}\" has incremental backups of another full backup \"{}\"",
                              place(), full))
          .hint("Give another incremental_location.");
    }
    if (what == Claim::OnlyCheck) return;
    mark = write_mark(*collection_, here, *other, stop);
  }
  // What can be missing there was removed. Any other place would make two of one chain.
  if (!other && mark->description() == elsewhere_->description()) {
    if (what == Claim::OnlyCheck) return;
    other = write_mark(*elsewhere_, there, *mark, stop);
  }
  if (!other || other->id() != mark->id()) {
    throw tied_elsewhere(full, place(), shown(*mark, viewer));
  }
  tied_->remember(full);
}

PutResult LocatedStore::put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) {
  const auto full = full_of(key);
  if (full && tied_->has(*full, stop)) {
    return elsewhere_->put(key_elsewhere(key), bytes, mode, stop);
  }
  return collection_->put(key, bytes, mode, stop);
}

bool LocatedStore::get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                            const Stop& stop) {
  const auto marked = full_of_mark(key);
  if (marked && tied_->has(*marked, stop)) return false;
  const auto full = full_of(key);
  if (full && tied_->has(*full, stop) &&
      elsewhere_->get_into(key_elsewhere(key), offset, into, stop)) {
    return true;
  }
  return collection_->get_into(key, offset, into, stop);
}

std::optional<ObjectInfo> LocatedStore::stat(const ObjectKey& key, const Stop& stop) {
  const auto marked = full_of_mark(key);
  if (marked && tied_->has(*marked, stop)) return std::nullopt;
  const auto full = full_of(key);
  if (full && tied_->has(*full, stop)) {
    if (const auto info = elsewhere_->stat(key_elsewhere(key), stop)) {
      return ObjectInfo{.key = key, .size = info->size};
    }
  }
  return collection_->stat(key, stop);
}

void LocatedStore::list(const ObjectKey& prefix,
                        const std::function<void(const ObjectInfo&)>& visit, const Stop& stop) {
  const bool below = prefix == kIncrementalsDirectory ||
                     prefix.starts_with(fmt::format("{}/", kIncrementalsDirectory));
  if (!below && !prefix.empty()) return collection_->list(prefix, visit, stop);
  std::set<ObjectKey> seen;
  std::map<std::string, bool> tied;  // so that objects of others cost one question for each full
  elsewhere_->list(
      key_elsewhere(prefix),
      [&](const ObjectInfo& info) {
        ObjectInfo here{.key = key_here(info.key), .size = info.size};
        const auto full = full_of(here.key);
        if (!full) return;
        const auto [known, is_new] = tied.try_emplace(*full, false);
        if (is_new) known->second = tied_->has(*full, stop);
        if (!known->second) return;
        seen.insert(here.key);
        visit(here);
      },
      stop);
  collection_->list(
      prefix,
      [&](const ObjectInfo& info) {
        if (!seen.contains(info.key)) visit(info);
      },
      stop);
}

std::vector<std::string> LocatedStore::list_directories(const ObjectKey& prefix, const Stop& stop) {
  std::vector<std::string> names = collection_->list_directories(prefix, stop);
  const auto full = full_of(prefix);
  const bool above = prefix == kIncrementalsDirectory ||
                     (!full && prefix.starts_with(fmt::format("{}/", kIncrementalsDirectory)));
  // What is above the fulls is not sorted out here: who looks into them sees no layers of others.
  if (!above && !(full && tied_->has(*full, stop))) return names;
  for (std::string& name : elsewhere_->list_directories(key_elsewhere(prefix), stop)) {
    names.push_back(std::move(name));
  }
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

void LocatedStore::remove(const ObjectKey& key, const Stop& stop) {
  const auto full = full_of(key);
  if (full && tied_->has(*full, stop)) elsewhere_->remove(key_elsewhere(key), stop);
  collection_->remove(key, stop);
}

ObjectKey incremental_location_key(std::string_view full) {
  return fmt::format("{}/{}", full, kIncrementalLocationName);
}

ObjectKey full_location_key(std::string_view full) {
  return fmt::format("{}/{}", incrementals_of(full), kFullLocationName);
}

std::optional<std::string> hidden_incrementals(ObjectStore& store, std::string_view full,
                                               Viewer viewer, const Stop& stop) {
  try {
    const auto mark = read_mark(store, incremental_location_key(full), stop);
    if (!mark) return std::nullopt;
    return shown(*mark, viewer);
  } catch (const Error& error) {
    if (error.state() != sqlstate::kDataCorrupted) throw;
    return "a place that cannot be read";
  }
}

Error incremental_location_missing(std::string_view full, std::string_view place) {
  return Error(sqlstate::kInvalidParameterValue,
               fmt::format("the incremental backups of \"{}\" are in another place", full))
      .detail(fmt::format("They are in {}.", place))
      .hint("Give that place as option incremental_location.");
}

void require_no_hidden_incrementals(ObjectStore& store, std::string_view full, Viewer viewer,
                                    const Stop& stop) {
  const auto place = hidden_incrementals(store, full, viewer, stop);
  if (place) throw incremental_location_missing(full, *place);
}

bool is_of_other_collection(std::string_view full, std::string_view key) {
  if (key.size() <= full.size() || !key.starts_with(full) || key[full.size()] != '/') return false;
  const std::string_view name = key.substr(full.size() + 1);
  if (name == kFullLocationName) return true;
  // 20261120/231500.00/…
  constexpr std::size_t kNameBytes = 18;
  if (name.size() <= kNameBytes || name[kNameBytes] != '/') return false;
  return parse_incremental_directory(
             fmt::format("{}/{}", incrementals_of(full), name.substr(0, kNameBytes)))
      .has_value();
}

}  // namespace holdfast::collection
