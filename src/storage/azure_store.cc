#include "storage/azure_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <pugixml.hpp>

#include "base/error.h"
#include "crypto/base64.h"
#include "crypto/digest.h"
#include "storage/applied_lock.h"
#include "storage/azure_client.h"
#include "storage/http_errors.h"
#include "storage/keys.h"
#include "storage/ranged_get.h"

namespace holdfast::storage {

namespace {

class AzureStore : public ObjectStore {
 public:
  AzureStore(const AzureOptions& options, AzureParts parts)
      : client_(options, std::move(parts)), locks_(!options.own_endpoint) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override {
    stop.check();
    check_key(key);
    check_size(key, bytes);
    net::HttpHeaders headers = {{"x-ms-blob-type", "BlockBlob"},
                                {"Content-Type", "application/octet-stream"},
                                {"Content-MD5", crypto::to_base64(crypto::md5(bytes))}};
    if (mode == PutMode::OnlyIfAbsent) headers.emplace_back("If-None-Match", "*");
    const auto& lock = client_.parts().access.lock;
    const bool locked = lock && lock->is_for(key);
    const Time until =
        locked ? client_.parts().environment.clock->now() + lock->retain_for : Time();
    if (locked) add_retention(*lock, until, headers);
    const net::HttpResponse response = client_.send({.method = net::HttpMethod::Put,
                                                     .key = place().full(key),
                                                     .headers = std::move(headers),
                                                     .body = bytes},
                                                    stop);
    if (mode == PutMode::OnlyIfAbsent &&
        (response.status == 412 ||
         (response.status == 409 && AzureClient::code_of(response) == "BlobAlreadyExists"))) {
      return PutResult::Taken;
    }
    if (!response.success()) throw AzureClient::failure("put", key, response);
    if (locked && !locks_) verify_lock(key, *lock, until, stop);
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
        client_.send({.method = net::HttpMethod::Get,
                      .key = place().full(key),
                      .headers = {{"x-ms-range", range_header(offset, into.size())}},
                      .into = into},
                     stop);
    if (response.status == 404 && !AzureClient::no_container(response)) return false;
    if (response.status == 416) throw too_short(key, offset, into.size());
    if (!response.success()) throw AzureClient::failure("get", key, response);
    check_range(response, key, offset, into.size());
    return true;
  }

  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    check_key(key);
    const net::HttpResponse response =
        client_.send({.method = net::HttpMethod::Head, .key = place().full(key)}, stop);
    if (response.status == 404 && !AzureClient::no_container(response)) return std::nullopt;
    if (!response.success()) throw AzureClient::failure("look up", key, response);
    return ObjectInfo{.key = key, .size = content_length(response, key)};
  }

  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    list_pages(prefix, "", stop, [&](const pugi::xml_node& page, ListPages& pages) {
      for (const pugi::xml_node blob : page.child("Blobs").children("Blob")) {
        const std::string name = AzureClient::name_of(blob);
        // A name that ends in "/" is a folder that somebody made with another tool.
        if (name.ends_with('/') || !pages.is_new(name)) continue;
        visit({.key = place().own(name),
               .size = blob.child("Properties").child("Content-Length").text().as_ullong()});
      }
    });
  }

  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    std::vector<std::string> names;
    const std::size_t start = place().full_prefix(prefix).size();
    list_pages(prefix, "/", stop, [&](const pugi::xml_node& page, ListPages& pages) {
      for (const pugi::xml_node common : page.child("Blobs").children("BlobPrefix")) {
        const std::string name = AzureClient::name_of(common);
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
        client_.send({.method = net::HttpMethod::Delete, .key = place().full(key)}, stop);
    if (response.success() || (response.status == 404 && !AzureClient::no_container(response)))
      return;
    if (response.status == 409 && AzureClient::code_of(response) == "BlobImmutableDueToPolicy") {
      throw Error(sqlstate::kInsufficientPrivilege,
                  fmt::format("could not remove object \"{}\": a policy makes it immutable", key));
    }
    throw AzureClient::failure("remove", key, response);
  }

  std::string description() const override { return client_.parts().description; }

 private:
  /// Source: Azure, "Put Blob", headers of version 2020-06-12 and later.
  static void add_retention(const ObjectLock& lock, Time until, net::HttpHeaders& headers) {
    headers.emplace_back("x-ms-immutability-policy-until-date", format_http_date(until));
    headers.emplace_back("x-ms-immutability-policy-mode",
                         lock.mode == LockMode::Compliance ? "locked" : "unlocked");
  }

  /// Source: Azure, "Get Blob Properties", whose answer has the same headers.
  void verify_lock(const ObjectKey& key, const ObjectLock& lock, Time until, const Stop& stop) {
    const net::HttpResponse response =
        client_.send({.method = net::HttpMethod::Head, .key = place().full(key)}, stop);
    if (!response.success()) throw AzureClient::failure("verify the lock of", key, response);
    AppliedLock applied{
        .until = parse_http_date(response.header("x-ms-immutability-policy-until-date"))};
    const std::string_view mode = response.header("x-ms-immutability-policy-mode");
    if (mode == "locked" || mode == "Locked") applied.mode = LockMode::Compliance;
    if (mode == "unlocked" || mode == "Unlocked") applied.mode = LockMode::Governance;
    require_applied(applied, lock, until, key, client_.options().endpoint);
    locks_ = true;
  }

  template <typename Visit>
  void list_pages(const ObjectKey& prefix, const std::string& delimiter, const Stop& stop,
                  const Visit& visit) {
    stop.check();
    check_prefix(prefix);
    QueryParameters query;
    if (!delimiter.empty()) query.emplace_back("delimiter", delimiter);
    client_.list(place().full_prefix(prefix), query, visit, stop);
  }

  const KeyPlace& place() const { return client_.place(); }

  AzureClient client_;
  /// Whether a lock that is asked for is given. Azure itself refuses what it cannot lock.
  std::atomic<bool> locks_;
};

}  // namespace

std::unique_ptr<ObjectStore> open_azure_store(const AzureOptions& options, AzureParts parts) {
  if (parts.access.versions_at) return open_azure_versions(options, std::move(parts));
  return std::make_unique<AzureStore>(options, std::move(parts));
}

}  // namespace holdfast::storage
