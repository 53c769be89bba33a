#include "storage/gcs_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "crypto/base64.h"
#include "crypto/digest.h"
#include "io/file.h"
#include "storage/aws_signer.h"
#include "storage/http_errors.h"
#include "storage/keys.h"
#include "storage/listing.h"
#include "storage/percent.h"
#include "storage/ranged_get.h"

namespace holdfast::storage {

namespace {

/// Numbers of 64 bits are strings in Google's JSON.
std::optional<std::uint64_t> number_of(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return std::nullopt;
  if (found->is_number_unsigned()) return found->get<std::uint64_t>();
  if (!found->is_string()) return std::nullopt;
  const auto& text = found->get_ref<const std::string&>();
  std::uint64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

class GcsStore : public ObjectStore {
 public:
  GcsStore(const GcsOptions& options, GcsParts parts)
      : options_(options),
        place_(options.prefix),
        parts_(std::move(parts)),
        token_(make_gcs_token(options.auth, parts_.environment)) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override {
    stop.check();
    check_key(key);
    check_size(key, bytes);
    // The digest is part of what is uploaded, so that the server refuses a body that changed.
    nlohmann::json metadata = {{"name", place_.full(key)},
                               {"contentType", "application/octet-stream"},
                               {"md5Hash", crypto::to_base64(crypto::md5(bytes))}};
    if (parts_.lock && parts_.lock->is_for(key)) metadata["retention"] = retention(*parts_.lock);
    const std::string boundary = "holdfast-" + io::random_suffix();
    const std::string head = fmt::format(
        "--{0}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{1}\r\n"
        "--{0}\r\nContent-Type: application/octet-stream\r\n\r\n",
        boundary, metadata.dump());
    const std::string tail = fmt::format("\r\n--{}--\r\n", boundary);
    QueryParameters query = {{"uploadType", "multipart"}};
    if (mode == PutMode::OnlyIfAbsent) query.emplace_back("ifGenerationMatch", "0");
    const net::HttpResponse response =
        send({.method = net::HttpMethod::Post,
              .path = fmt::format("/upload/storage/v1/b/{}/o", percent_encode(options_.bucket)),
              .query = std::move(query),
              .headers = {{"Content-Type", "multipart/related; boundary=" + boundary}},
              .body = {as_bytes(head), bytes, as_bytes(tail)}},
             stop);
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
        send({.path = object_path(key),
              .query = {{"alt", "media"}},
              .headers = {{"Range", range_header(offset, into.size())}},
              .into = into},
             stop);
    if (response.status == 404) return exists_not(response);
    if (response.status == 416) throw too_short(key, offset, into.size());
    if (!response.success()) throw failure("get", key, response);
    check_range(response, key, offset, into.size());
    return true;
  }

  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    check_key(key);
    const net::HttpResponse response =
        send({.path = object_path(key), .query = {{"fields", "size"}}}, stop);
    if (response.status == 404) {
      exists_not(response);
      return std::nullopt;
    }
    if (!response.success()) throw failure("look up", key, response);
    const auto document = nlohmann::json::parse(as_text(response.body), nullptr, false);
    const auto size = document.is_object() ? number_of(document, "size") : std::nullopt;
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
        const auto size = number_of(item, "size");
        // A name that ends in "/" is a folder that somebody made with another tool.
        if (name.empty() || !size || name.ends_with('/') || !pages.is_new(name)) continue;
        visit({.key = place_.own(name), .size = *size});
      }
    });
  }

  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    std::vector<std::string> names;
    const std::size_t start = place_.full_prefix(prefix).size();
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
        send({.method = net::HttpMethod::Delete, .path = object_path(key)}, stop);
    if (response.status == 404) {
      exists_not(response);
      return;
    }
    if (!response.success()) throw failure("remove", key, response);
  }

  std::string description() const override { return parts_.description; }

 private:
  /// Source: Cloud Storage JSON API, Objects: "retention".
  nlohmann::json retention(const ObjectLock& lock) const {
    return {{"mode", lock.mode == LockMode::Compliance ? "Locked" : "Unlocked"},
            {"retainUntilTime", format_rfc3339(parts_.environment.clock->now() + lock.retain_for)}};
  }

  struct Call {
    net::HttpMethod method = net::HttpMethod::Get;
    std::string path;
    QueryParameters query = {};
    net::HttpHeaders headers = {};
    std::vector<ByteView> body = {};
    std::optional<MutableByteView> into = std::nullopt;
  };

  std::string object_path(const ObjectKey& key) const {
    return fmt::format("/storage/v1/b/{}/o/{}", percent_encode(options_.bucket),
                       percent_encode(place_.full(key)));
  }

  net::HttpResponse send(Call call, const Stop& stop) {
    if (!options_.billing_project.empty()) {
      call.query.emplace_back("userProject", options_.billing_project);
    }
    call.headers.emplace_back("Authorization", "Bearer " + token_->get(stop));
    const std::string query = canonical_query(std::move(call.query));
    net::HttpResponse response = parts_.http->send(
        {.method = call.method,
         .url = options_.endpoint + call.path + (query.empty() ? "" : "?") + query,
         .headers = std::move(call.headers),
         .body = std::move(call.body),
         .into = call.into},
        stop);
    if (response.status == 401 && options_.auth.bearer_token.empty()) {
      token_->reject();
      throw Error(sqlstate::kInsufficientPrivilege, "the storage credentials have expired")
          .retry(Retry::Safe);
    }
    return response;
  }

  template <typename Visit>
  void list_pages(const ObjectKey& prefix, const std::string& delimiter, const Stop& stop,
                  const Visit& visit) {
    stop.check();
    check_prefix(prefix);
    ListPages pages;
    std::string token;
    do {
      QueryParameters query = {{"prefix", place_.full_prefix(prefix)},
                               {"fields", "items(name,size),prefixes,nextPageToken"}};
      if (!delimiter.empty()) query.emplace_back("delimiter", delimiter);
      if (!token.empty()) query.emplace_back("pageToken", token);
      const net::HttpResponse response =
          send({.path = fmt::format("/storage/v1/b/{}/o", percent_encode(options_.bucket)),
                .query = std::move(query)},
               stop);
      if (!response.success()) throw failure("list", prefix, response);
      const auto page = nlohmann::json::parse(as_text(response.body), nullptr, false);
      if (!page.is_object()) {
        throw Error(sqlstate::kIoError,
                    fmt::format("could not list \"{}\": the answer is not a list", prefix))
            .retry(Retry::Safe);
      }
      visit(page, pages);
      token = page.value("nextPageToken", "");
      if (!token.empty()) pages.next(token, fmt::format("\"{}\"", prefix));
    } while (!token.empty());
  }

  /// False, for an object that is not there. Throws when it is the bucket that is missing, which
  /// must not look like an empty store.
  bool exists_not(const net::HttpResponse& response) const {
    const std::string message = parse_json_error(response.body).message;
    if (message.find("bucket does not exist") == std::string::npos) return false;
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("bucket \"{}\" does not exist", options_.bucket));
  }

  static Error failure(std::string_view verb, const std::string& key,
                       const net::HttpResponse& response) {
    return http_error(fmt::format("could not {} object \"{}\"", verb, key), response,
                      parse_json_error(response.body));
  }

  const GcsOptions options_;
  const KeyPlace place_;
  const GcsParts parts_;
  const std::unique_ptr<AccessTokenCache> token_;
};

}  // namespace

std::unique_ptr<ObjectStore> open_gcs_store(const GcsOptions& options, GcsParts parts) {
  return std::make_unique<GcsStore>(options, std::move(parts));
}

}  // namespace holdfast::storage
