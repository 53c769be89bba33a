#include "storage/versions_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "storage/keys.h"

namespace holdfast::storage {

namespace {

using NewestVersions = std::map<ObjectKey, ObjectVersion>;

/// Ids are numbers that grow, or times: the later one of two at one time is longer, or sorts later.
bool is_newer(const ObjectVersion& one, const ObjectVersion& other) {
  return std::tuple(one.since, one.id.size(), one.id) >
         std::tuple(other.since, other.id.size(), other.id);
}

class AsOfStore final : public ObjectStore {
 public:
  AsOfStore(std::unique_ptr<VersionSource> source, Time at) : source_(std::move(source)), at_(at) {}

  PutResult put(const ObjectKey& key, ByteView /*bytes*/, PutMode /*mode*/,
                const Stop& stop) override {
    stop.check();
    throw read_only("put", key);
  }
  void remove(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    throw read_only("remove", key);
  }

  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    check_key(key);
    const auto versions = load(stop);
    const auto found = versions->find(key);
    if (found == versions->end()) return false;
    const ObjectVersion& version = found->second;
    if (version.size < offset || version.size - offset < into.size()) {
      throw too_short(key, offset, into.size());
    }
    return into.empty() || source_->get_into(version, offset, into, stop);
  }

  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    check_key(key);
    const auto versions = load(stop);
    const auto found = versions->find(key);
    if (found == versions->end()) return std::nullopt;
    return ObjectInfo{.key = key, .size = found->second.size};
  }

  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    for_each_below(prefix, stop, [&](const ObjectVersion& version, std::size_t /*start*/) {
      visit({.key = version.key, .size = version.size});
    });
  }

  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    std::vector<std::string> names;
    for_each_below(prefix, stop, [&](const ObjectVersion& version, std::size_t start) {
      const std::size_t slash = version.key.find('/', start);
      if (slash == std::string::npos) return;
      std::string name = version.key.substr(start, slash - start);
      // Keys are in order, so that those of one directory are beside each other.
      if (names.empty() || names.back() != name) names.push_back(std::move(name));
    });
    // "a-b/…" sorts before "a/…".
    std::ranges::sort(names);
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names;
  }

  std::string description() const override {
    return fmt::format("{} as of {}", source_->description(), format_timestamptz(at_));
  }

 private:
  Error read_only(std::string_view verb, const ObjectKey& key) const {
    return Error(sqlstate::kObjectNotInPrerequisiteState,
                 fmt::format("cannot {} object \"{}\" in {}", verb, key, description()))
        .detail("What a bucket was at an earlier moment can only be read.");
  }

  /// The last reader may outlive a second list.
  using Loaded = std::shared_ptr<const NewestVersions>;

  /// What was there at the moment. The past does not change, so once is enough.
  Loaded load(const Stop& stop) {
    stop.check();
    {
      const MutexLock lock(mutex_);
      if (loaded_) return loaded_;
    }
    NewestVersions newest;
    source_->list(
        [&](ObjectVersion version) {
          if (version.since > at_) return;
          const auto [there, is_new] = newest.try_emplace(version.key, version);
          if (!is_new && is_newer(version, there->second)) there->second = std::move(version);
        },
        stop);
    std::erase_if(newest, [&](const auto& entry) {
      return entry.second.until && *entry.second.until <= at_;
    });
    auto loaded = std::make_shared<const NewestVersions>(std::move(newest));
    const MutexLock lock(mutex_);
    loaded_ = loaded;
    return loaded;
  }

  template <typename Visit>
  void for_each_below(const ObjectKey& prefix, const Stop& stop, const Visit& visit) {
    check_prefix(prefix);
    const auto versions = load(stop);
    const std::string start = prefix.empty() ? "" : prefix + "/";
    for (auto one = versions->lower_bound(start);
         one != versions->end() && one->first.starts_with(start); ++one) {
      visit(one->second, start.size());
    }
  }

  const std::unique_ptr<VersionSource> source_;
  const Time at_;
  Mutex mutex_;
  Loaded loaded_ HF_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<ObjectStore> open_as_of(std::unique_ptr<VersionSource> source, Time at) {
  return std::make_unique<AsOfStore>(std::move(source), at);
}

}  // namespace holdfast::storage
