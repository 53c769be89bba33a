#include "storage/gcs_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "crypto/base64.h"
#include "crypto/digest.h"
#include "io/file.h"
#include "storage/applied_lock.h"
#include "storage/gcs_client.h"
#include "storage/keys.h"
#include "storage/ranged_get.h"

namespace holdfast::storage {

namespace {

class GcsStore : public ObjectStore {
 public:
  GcsStore(const GcsOptions& options, GcsParts parts) : client_(options, std::move(parts)) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override {
    stop.check();
    check_key(key);
    check_size(key, bytes);
    // The digest is part of what is uploaded, so that the server refuses a body that changed.
    nlohmann::json metadata = {{"name", place().full(key)},
                               {"contentType", "application/octet-stream"},
                               {"md5Hash", crypto::to_base64(crypto::md5(bytes))}};
    const bool locked = lock() && lock()->is_for(key);
    const Time until =
        locked ? client_.parts().environment.clock->now() + lock()->retain_for : Time();
    if (locked) metadata["retention"] = retention(*lock(), until);
    const std::string boundary = "holdfast-" + io::random_suffix();
    const std::string head = fmt::format(
        "--{0}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{1}\r\n"
        "--{0}\r\nContent-Type: application/octet-stream\r\n\r\n",
        boundary, metadata.dump());
    const std::string tail = fmt::format("\r\n--{}--\r\n", boundary);
    QueryParameters query = {{"uploadType", "multipart"}};
    if (mode == PutMode::OnlyIfAbsent) query.emplace_back("ifGenerationMatch", "0");
    const net::HttpResponse response =
        client_.send({.method = net::HttpMethod::Post,
                      .path = client_.upload_path(),
                      .query = std::move(query),
                      .headers = {{"Content-Type", "multipart/related; boundary=" + boundary}},
                      .body = {as_bytes(head), bytes, as_bytes(tail)}},
                     stop);
    if (mode == PutMode::OnlyIfAbsent && response.status == 412) return PutResult::Taken;
    if (!response.success()) throw GcsClient::failure("put", key, response);
    // Google's own store refuses what it cannot lock.
    if (locked && client_.options().own_endpoint) {
      require_applied(applied_lock(response), *lock(), until, key, client_.options().endpoint);
    }
    return PutResult::Stored;
  }

  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    stop.check();
    check_key(key);
    if (into.empty()) {
      const auto info = stat(key, stop);
      if (info && info->size < offset) throw too_short(key, offset, 0);
      return info.has_value();
    }
    const net::HttpResponse response =
        client_.send({.path = client_.object_path(key),
                      .query = {{"alt", "media"}},
                      .headers = {{"Range", range_header(offset, into.size())}},
                      .into = into},
                     stop);
    if (response.status == 404) return client_.exists_not(response);
    if (response.status == 416) throw too_short(key, offset, into.size());
    if (!response.success()) throw GcsClient::failure("get", key, response);
    check_range(response, key, offset, into.size());
    return true;
  }

  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    check_key(key);
    const net::HttpResponse response =
        client_.send({.path = client_.object_path(key), .query = {{"fields", "size"}}}, stop);
    if (response.status == 404) {
      client_.exists_not(response);
      return std::nullopt;
    }
    if (!response.success()) throw GcsClient::failure("look up", key, response);
    const auto document = nlohmann::json::parse(as_text(response.body), nullptr, false);
    const auto size = document.is_object() ? GcsClient::number_of(document, "size") : std::nullopt;
    if (!size) {
      throw Error(sqlstate::kIoError,
                  fmt::format("could not look up object \"{}\": the answer has no size", key))
          .retry(Retry::Safe);
    }
    return ObjectInfo{.key = key, .size = *size};
  }

  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    list_pages(prefix, "", stop, [&](const nlohmann::json& page, ListPages& pages) {
      for (const auto& item : page.value("items", nlohmann::json::array())) {
        const std::string name = item.value("name", "");
        const auto size = GcsClient::number_of(item, "size");
        // A name that ends in "/" is a folder that somebody made with another tool.
        if (name.empty() || !size || name.ends_with('/') || !pages.is_new(name)) continue;
        visit({.key = place().own(name), .size = *size});
      }
    });
  }

  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    std::vector<std::string> names;
    const std::size_t start = place().full_prefix(prefix).size();
    list_pages(prefix, "/", stop, [&](const nlohmann::json& page, ListPages& pages) {
      for (const auto& item : page.value("prefixes", nlohmann::json::array())) {
        const std::string name = item.is_string() ? item.get<std::string>() : "";
        if (name.size() > start + 1 && pages.is_new(name)) {
          names.push_back(name.substr(start, name.size() - start - 1));
        }
      }
    });
    std::sort(names.begin(), names.end());
    return names;
  }

  void remove(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    check_key(key);
    const net::HttpResponse response =
        client_.send({.method = net::HttpMethod::Delete, .path = client_.object_path(key)}, stop);
    if (response.status == 404) {
      client_.exists_not(response);
      return;
    }
    if (!response.success()) throw GcsClient::failure("remove", key, response);
  }

  std::string description() const override { return client_.parts().description; }

 private:
  /// Source: Cloud Storage JSON API, Objects: "retention".
  static nlohmann::json retention(const ObjectLock& lock, Time until) {
    return {{"mode", lock.mode == LockMode::Compliance ? "Locked" : "Unlocked"},
            {"retainUntilTime", format_rfc3339(until)}};
  }

  /// What an upload answers is the object as it is.
  static AppliedLock applied_lock(const net::HttpResponse& response) {
    const auto object = nlohmann::json::parse(as_text(response.body), nullptr, false);
    const auto retention = object.is_object() ? object.find("retention") : object.end();
    if (retention == object.end() || !retention->is_object()) return {};
    const auto text = [&](const char* name) {
      const auto found = retention->find(name);
      return found != retention->end() && found->is_string() ? found->get<std::string>() : "";
    };
    AppliedLock lock{.until = parse_timestamp(text("retainUntilTime"))};
    if (text("mode") == "Locked") lock.mode = LockMode::Compliance;
    if (text("mode") == "Unlocked") lock.mode = LockMode::Governance;
    return lock;
  }

  template <typename Visit>
  void list_pages(const ObjectKey& prefix, const std::string& delimiter, const Stop& stop,
                  const Visit& visit) {
    stop.check();
    check_prefix(prefix);
    QueryParameters query = {{"fields", "items(name,size),prefixes,nextPageToken"}};
    if (!delimiter.empty()) query.emplace_back("delimiter", delimiter);
    client_.list(place().full_prefix(prefix), query, visit, stop);
  }

  const KeyPlace& place() const { return client_.place(); }
  const std::optional<ObjectLock>& lock() const { return client_.parts().access.lock; }

  GcsClient client_;
};

}  // namespace

std::unique_ptr<ObjectStore> open_gcs_store(const GcsOptions& options, GcsParts parts) {
  if (parts.access.versions_at) return open_gcs_versions(options, std::move(parts));
  return std::make_unique<GcsStore>(options, std::move(parts));
}

}  // namespace holdfast::storage
