#include "storage/http_store.h"

#include <fmt/format.h>

#include "base/error.h"
#include "storage/http_errors.h"
#include "storage/keys.h"
#include "storage/percent.h"
#include "storage/ranged_get.h"

namespace holdfast::storage {

namespace {

class HttpStore : public ObjectStore {
 public:
  HttpStore(const HttpStoreOptions& options, std::unique_ptr<net::HttpTransport> http)
      : options_(options), http_(std::move(http)) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override {
    stop.check();
    check_key(key);
    check_size(key, bytes);
    net::HttpRequest request = {.method = net::HttpMethod::Put, .url = url_of(key)};
    request.body.push_back(bytes);
    if (mode == PutMode::OnlyIfAbsent) {
      // Few servers know If-None-Match with PUT, and one that does not would overwrite.
      if (stat(key, stop)) return PutResult::Taken;
      request.headers.emplace_back("If-None-Match", "*");
    }
    const net::HttpResponse response = http_->send(request, stop);
    if (mode == PutMode::OnlyIfAbsent && response.status == 412) return PutResult::Taken;
    if (!response.success()) throw failure("put", key, response);
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
        http_->send({.url = url_of(key),
                     .headers = {{"Range", range_header(offset, into.size())}},
                     .into = into,
                     .follow_redirects = true},
                    stop);
    if (is_absent(response)) return false;
    if (response.status == 416) throw too_short(key, offset, into.size());
    if (!response.success()) throw failure("get", key, response);
    check_range(response, key, offset, into.size());
    return true;
  }

  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    check_key(key);
    const net::HttpResponse response = http_->send(
        {.method = net::HttpMethod::Head, .url = url_of(key), .follow_redirects = true}, stop);
    if (is_absent(response)) return std::nullopt;
    if (!response.success()) throw failure("look up", key, response);
    return ObjectInfo{.key = key, .size = content_length(response, key)};
  }

  void list(const ObjectKey& /*prefix*/, const std::function<void(const ObjectInfo&)>& /*visit*/,
            const Stop& /*stop*/) override {
    throw no_lists();
  }
  std::vector<std::string> list_directories(const ObjectKey& /*prefix*/,
                                            const Stop& /*stop*/) override {
    throw no_lists();
  }

  void remove(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    check_key(key);
    const net::HttpResponse response =
        http_->send({.method = net::HttpMethod::Delete, .url = url_of(key)}, stop);
    if (!response.success() && !is_absent(response)) throw failure("remove", key, response);
  }

  std::string description() const override { return options_.description; }

 private:
  std::string url_of(const ObjectKey& key) const {
    return options_.base_url + "/" + percent_encode_path(key) +
           (options_.query.empty() ? "" : "?" + options_.query);
  }

  static bool is_absent(const net::HttpResponse& response) {
    return response.status == 404 || response.status == 410;
  }

  static Error no_lists() {
    return Error(sqlstate::kFeatureNotSupported, "HTTP storage cannot be listed")
        .hint(
            "Name the backup's subdirectory instead of LATEST to restore from it; take backups "
            "into storage of another kind.");
  }

  static Error failure(std::string_view verb, const std::string& key,
                       const net::HttpResponse& response) {
    Error error = http_error(fmt::format("could not {} object \"{}\"", verb, key), response, {});
    // 405: the server does not let anybody write.
    if (response.status == 405) {
      return Error(sqlstate::kInsufficientPrivilege, error.message());
    }
    return error;
  }

  const HttpStoreOptions options_;
  const std::unique_ptr<net::HttpTransport> http_;
};

}  // namespace

std::unique_ptr<ObjectStore> open_http_store(const HttpStoreOptions& options,
                                             std::unique_ptr<net::HttpTransport> http) {
  return std::make_unique<HttpStore>(options, std::move(http));
}

}  // namespace holdfast::storage
