#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "base/error.h"
#include "base/mutex.h"
#include "storage/keys.h"
#include "storage/ranged_get.h"
#include "storage/s3_client.h"
#include "storage/s3_versions_internal.h"

namespace holdfast::storage {

namespace {

struct Version {
  std::string id;
  std::uint64_t size = 0;
  Time modified;
  bool removal = false;  ///< a delete marker
};
using Versions = std::map<std::string, Version>;  // by full name

class S3VersionsStore : public ObjectStore {
 public:
  S3VersionsStore(const S3Options& options, S3Parts parts)
      : client_(options, std::move(parts)), at_(client_.access().versions_at.value()) {}

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
    const auto version = find(key, stop);
    if (!version) return false;
    if (version->size < offset || version->size - offset < into.size()) {
      throw too_short(key, offset, into.size());
    }
    if (into.empty()) return true;
    const net::HttpResponse response =
        client_.send({.key = client_.place().full(key),
                      .query = {{"versionId", version->id}},
                      .headers = {{"Range", range_header(offset, into.size())}},
                      .into = into},
                     stop);
    if (response.status == 404 && !S3Client::no_bucket(response)) return false;
    if (!response.success()) throw S3Client::failure("get", key, response);
    check_range(response, key, offset, into.size());
    return true;
  }

  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    const auto version = find(key, stop);
    if (!version) return std::nullopt;
    return ObjectInfo{.key = key, .size = version->size};
  }

  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    stop.check();
    check_prefix(prefix);
    Versions newest;
    list_versions(
        client_.place().full_prefix(prefix), {},
        [&](const pugi::xml_node& page, ListPages&) {
          collect(page, newest);
          return true;
        },
        stop);
    for (const auto& [name, version] : newest) {
      // A name that ends in "/" is a folder that somebody made with another tool.
      if (name.ends_with('/')) continue;
      const ObjectKey key = client_.place().own(name);
      remember(key, version);
      if (!version.removal) visit({.key = key, .size = version.size});
    }
  }

  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    stop.check();
    check_prefix(prefix);
    std::vector<std::string> names;
    const std::string start = client_.place().full_prefix(prefix);
    list_versions(
        start, {{"delimiter", "/"}},
        [&](const pugi::xml_node& page, ListPages& pages) {
          for (const pugi::xml_node common : page.children("CommonPrefixes")) {
            const std::string name = S3Client::decode(common.child_value("Prefix"));
            if (name.size() > start.size() + 1 && pages.is_new(name)) {
              names.push_back(name.substr(start.size(), name.size() - start.size() - 1));
            }
          }
          return true;
        },
        stop);
    std::sort(names.begin(), names.end());
    return names;
  }

  std::string description() const override {
    return fmt::format("{} as of {}", client_.description(), format_timestamptz(at_));
  }

 private:
  Error read_only(std::string_view verb, const ObjectKey& key) const {
    return Error(sqlstate::kObjectNotInPrerequisiteState,
                 fmt::format("cannot {} object \"{}\" in {}", verb, key, description()))
        .detail("What a bucket was at an earlier moment can only be read.");
  }

  void list_versions(const std::string& full_prefix, QueryParameters query,
                     const std::function<bool(const pugi::xml_node&, ListPages&)>& visit,
                     const Stop& stop) {
    query.emplace_back("versions", "");
    client_.list(
        {.root = "ListVersionsResult",
         .next = {{"NextKeyMarker", "key-marker"}, {"NextVersionIdMarker", "version-id-marker"}},
         .encoded = true},
        full_prefix, query, visit, stop);
  }

  /// Takes over what a page has that is newer than what is there, and not newer than the moment.
  void collect(const pugi::xml_node& page, Versions& newest) const {
    for (const pugi::xml_node entry : page.children()) {
      const std::string_view kind = entry.name();
      if (kind != "Version" && kind != "DeleteMarker") continue;
      const auto modified = parse_timestamp(entry.child_value("LastModified"));
      const std::string name = S3Client::decode(entry.child_value("Key"));
      if (!modified || name.empty()) {
        throw Error(sqlstate::kIoError, "could not list object versions: one has no name or time")
            .retry(Retry::Safe);
      }
      if (*modified > at_) continue;
      const auto known = newest.find(name);
      // Times may have a resolution of seconds only; of two at once the newer is listed first.
      if (known != newest.end() && known->second.modified >= *modified) continue;
      newest[name] = {.id = entry.child_value("VersionId"),
                      .size = entry.child("Size").text().as_ullong(),
                      .modified = *modified,
                      .removal = kind == "DeleteMarker"};
    }
  }

  void remember(const ObjectKey& key, const Version& version) {
    const MutexLock lock(mutex_);
    known_.insert_or_assign(key, version.removal ? std::nullopt : std::optional(version));
  }

  /// The version that counts; absent when there was none, or its removal.
  std::optional<Version> find(const ObjectKey& key, const Stop& stop) {
    stop.check();
    check_key(key);
    {
      const MutexLock lock(mutex_);
      if (const auto known = known_.find(key); known != known_.end()) return known->second;
    }
    const std::string name = client_.place().full(key);
    Versions newest;
    list_versions(
        name, {},
        [&](const pugi::xml_node& page, ListPages&) {
          collect(page, newest);
          // Names come in order, and this is the first that begins with itself.
          return std::ranges::all_of(page.children("Version"), [&](const pugi::xml_node& entry) {
            return S3Client::decode(entry.child_value("Key")) == name;
          });
        },
        stop);
    const auto found = newest.find(name);
    const auto version = found == newest.end() || found->second.removal
                             ? std::nullopt
                             : std::optional(found->second);
    const MutexLock lock(mutex_);
    known_.insert_or_assign(key, version);
    return version;
  }

  S3Client client_;
  const Time at_;
  Mutex mutex_;
  // What was found once stays: the past does not change.
  std::map<ObjectKey, std::optional<Version>> known_ HF_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<ObjectStore> open_s3_versions(const S3Options& options, S3Parts parts) {
  return std::make_unique<S3VersionsStore>(options, std::move(parts));
}

}  // namespace holdfast::storage
