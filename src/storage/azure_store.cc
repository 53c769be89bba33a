#include "storage/azure_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <pugixml.hpp>

#include "base/error.h"
#include "crypto/base64.h"
#include "crypto/digest.h"
#include "storage/http_errors.h"
#include "storage/keys.h"
#include "storage/listing.h"
#include "storage/percent.h"
#include "storage/ranged_get.h"

namespace holdfast::storage {

namespace {

/// Its Put Blob takes up to 5000 MiB, so that an object is always one request.
constexpr std::string_view kApiVersion = "2021-08-06";

class AzureStore : public ObjectStore {
 public:
  AzureStore(const AzureOptions& options, AzureParts parts)
      : options_(options),
        place_(options.prefix),
        parts_(std::move(parts)),
        auth_(make_azure_auth(options.auth, options.account, parts_.environment)) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override {
    stop.check();
    check_key(key);
    check_size(key, bytes);
    net::HttpHeaders headers = {{"x-ms-blob-type", "BlockBlob"},
                                {"Content-Type", "application/octet-stream"},
                                {"Content-MD5", crypto::to_base64(crypto::md5(bytes))}};
    if (mode == PutMode::OnlyIfAbsent) headers.emplace_back("If-None-Match", "*");
    if (parts_.lock && parts_.lock->is_for(key)) add_retention(*parts_.lock, headers);
    const net::HttpResponse response = send({.method = net::HttpMethod::Put,
                                             .key = place_.full(key),
                                             .headers = std::move(headers),
                                             .body = bytes},
                                            stop);
    if (mode == PutMode::OnlyIfAbsent &&
        (response.status == 412 ||
         (response.status == 409 && code_of(response) == "BlobAlreadyExists"))) {
      return PutResult::Taken;
    }
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
        send({.method = net::HttpMethod::Get,
              .key = place_.full(key),
              .headers = {{"x-ms-range", range_header(offset, into.size())}},
              .into = into},
             stop);
    if (response.status == 404 && !no_container(response)) return false;
    if (response.status == 416) throw too_short(key, offset, into.size());
    if (!response.success()) throw failure("get", key, response);
    check_range(response, key, offset, into.size());
    return true;
  }

  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    check_key(key);
    const net::HttpResponse response =
        send({.method = net::HttpMethod::Head, .key = place_.full(key)}, stop);
    if (response.status == 404 && !no_container(response)) return std::nullopt;
    if (!response.success()) throw failure("look up", key, response);
    return ObjectInfo{.key = key, .size = content_length(response, key)};
  }

  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    list_pages(prefix, "", stop, [&](const pugi::xml_node& page, ListPages& pages) {
      for (const pugi::xml_node blob : page.child("Blobs").children("Blob")) {
        const std::string name = name_of(blob);
        // A name that ends in "/" is a folder that somebody made with another tool.
        if (name.ends_with('/') || !pages.is_new(name)) continue;
        visit({.key = place_.own(name),
               .size = blob.child("Properties").child("Content-Length").text().as_ullong()});
      }
    });
  }

  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    std::vector<std::string> names;
    const std::size_t start = place_.full_prefix(prefix).size();
    list_pages(prefix, "/", stop, [&](const pugi::xml_node& page, ListPages& pages) {
      for (const pugi::xml_node common : page.child("Blobs").children("BlobPrefix")) {
        const std::string name = name_of(common);
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
        send({.method = net::HttpMethod::Delete, .key = place_.full(key)}, stop);
    if (response.success() || (response.status == 404 && !no_container(response))) return;
    if (response.status == 409 && code_of(response) == "BlobImmutableDueToPolicy") {
      throw Error(sqlstate::kInsufficientPrivilege,
                  fmt::format("could not remove object \"{}\": a policy makes it immutable", key));
    }
    throw failure("remove", key, response);
  }

  std::string description() const override { return parts_.description; }

 private:
  /// Source: Azure, "Put Blob", headers of version 2020-06-12 and later.
  void add_retention(const ObjectLock& lock, net::HttpHeaders& headers) const {
    headers.emplace_back("x-ms-immutability-policy-until-date",
                         format_http_date(parts_.environment.clock->now() + lock.retain_for));
    headers.emplace_back("x-ms-immutability-policy-mode",
                         lock.mode == LockMode::Compliance ? "locked" : "unlocked");
  }

  struct Call {
    net::HttpMethod method = net::HttpMethod::Get;
    std::string key = {};  ///< full; empty: the container
    QueryParameters query = {};
    net::HttpHeaders headers = {};
    ByteView body = {};
    std::optional<MutableByteView> into = std::nullopt;
  };

  net::HttpResponse send(const Call& call, const Stop& stop) {
    const std::string origin = net::origin_of(options_.endpoint);
    std::string path =
        options_.endpoint.substr(origin.size()) + "/" + percent_encode(options_.container);
    if (!call.key.empty()) path += "/" + percent_encode_path(call.key);
    AzureRequest request = {.method = call.method,
                            .path = path,
                            .query = call.query,
                            .headers = call.headers,
                            .body_bytes = call.body.size()};
    request.headers.emplace_back("x-ms-version", kApiVersion);
    request.headers.emplace_back("x-ms-date", format_http_date(parts_.environment.clock->now()));
    auth_->authorize(request, stop);
    const std::string query = canonical_query(request.query);
    net::HttpRequest sent = {.method = call.method,
                             .url = origin + path + (query.empty() ? "" : "?") + query,
                             .headers = std::move(request.headers),
                             .into = call.into};
    if (!call.body.empty()) sent.body.push_back(call.body);
    net::HttpResponse response = parts_.http->send(sent, stop);
    if (response.status == 401 && auth_->reject()) {
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
    std::string marker;
    do {
      QueryParameters query = {{"restype", "container"}, {"comp", "list"}};
      // An empty prefix parameter is refused by some stores.
      const std::string full = place_.full_prefix(prefix);
      if (!full.empty()) query.emplace_back("prefix", full);
      if (!delimiter.empty()) query.emplace_back("delimiter", delimiter);
      if (!marker.empty()) query.emplace_back("marker", marker);
      const net::HttpResponse response = send({.query = std::move(query)}, stop);
      if (!response.success()) throw failure("list", prefix, response);
      pugi::xml_document document;
      // White space at the ends of names counts.
      const bool parsed = document.load_buffer(response.body.data(), response.body.size(),
                                               pugi::parse_default | pugi::parse_ws_pcdata_single);
      const pugi::xml_node page = document.child("EnumerationResults");
      if (!parsed || !page) {
        throw Error(sqlstate::kIoError,
                    fmt::format("could not list \"{}\": the answer is not a list", prefix))
            .retry(Retry::Safe);
      }
      visit(page, pages);
      marker = page.child_value("NextMarker");
      if (!marker.empty()) pages.next(marker, fmt::format("\"{}\"", prefix));
    } while (!marker.empty());
  }

  /// Names that XML cannot hold are percent-encoded, which an attribute says.
  static std::string name_of(const pugi::xml_node& entry) {
    const pugi::xml_node name = entry.child("Name");
    const std::string_view text = name.child_value();
    if (!name.attribute("Encoded").as_bool()) return std::string(text);
    std::string decoded;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto byte = text[i] == '%' ? from_hex(text.substr(i + 1, 2)) : std::nullopt;
      decoded.push_back(byte && byte->size() == 1 ? static_cast<char>(byte->front()) : text[i]);
      if (byte && byte->size() == 1) i += 2;
    }
    return decoded;
  }

  /// Answers to HEAD have it in a header only.
  static std::string code_of(const net::HttpResponse& response) {
    const std::string_view code = response.header("x-ms-error-code");
    return code.empty() ? parse_xml_error(response.body).code : std::string(code);
  }
  static bool no_container(const net::HttpResponse& response) {
    return code_of(response) == "ContainerNotFound";
  }

  static Error failure(std::string_view verb, const std::string& key,
                       const net::HttpResponse& response) {
    return http_error(
        fmt::format("could not {} object \"{}\"", verb, key), response,
        {.code = code_of(response), .message = parse_xml_error(response.body).message});
  }

  const AzureOptions options_;
  const KeyPlace place_;
  const AzureParts parts_;
  const std::unique_ptr<AzureAuth> auth_;
};

}  // namespace

std::unique_ptr<ObjectStore> open_azure_store(const AzureOptions& options, AzureParts parts) {
  return std::make_unique<AzureStore>(options, std::move(parts));
}

}  // namespace holdfast::storage
