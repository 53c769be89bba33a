#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/http.h"
#include "storage/access_token.h"
#include "storage/aws_signer.h"
#include "storage/gcs_store.h"
#include "storage/listing.h"

namespace holdfast::storage {

/// Authorised requests to one bucket through Google's JSON interface. Thread-safe.
class GcsClient {
 public:
  struct Call {
    net::HttpMethod method = net::HttpMethod::Get;
    std::string path;
    QueryParameters query = {};
    net::HttpHeaders headers = {};
    std::vector<ByteView> body = {};
    std::optional<MutableByteView> into = std::nullopt;
  };

  GcsClient(const GcsOptions& options, GcsParts parts);

  const GcsOptions& options() const { return options_; }
  const KeyPlace& place() const { return place_; }
  const GcsParts& parts() const { return parts_; }

  std::string object_path(const ObjectKey& key) const;
  std::string upload_path() const;

  /// The answer, whatever its status; with Retry::Safe where the next try has another token.
  net::HttpResponse send(Call call, const Stop& stop);

  /// Calls `visit` for each page of the names that begin with `full_prefix`.
  void list(const std::string& full_prefix, const QueryParameters& query,
            const std::function<void(const nlohmann::json& page, ListPages& pages)>& visit,
            const Stop& stop);

  /// False, for an object that is not there. Throws when it is the bucket that is missing, which
  /// must not look like an empty store.
  bool exists_not(const net::HttpResponse& response) const;

  static Error failure(std::string_view verb, const std::string& key,
                       const net::HttpResponse& response);
  /// Numbers of 64 bits are strings in Google's JSON. Absent when there is none of this name.
  static std::optional<std::uint64_t> number_of(const nlohmann::json& object, const char* name);

 private:
  const GcsOptions options_;
  const KeyPlace place_;
  const GcsParts parts_;
  const std::unique_ptr<AccessTokenCache> token_;
};

/// The versions of a bucket's objects, which it keeps when its versioning is turned on.
std::unique_ptr<ObjectStore> open_gcs_versions(const GcsOptions& options, GcsParts parts);

}  // namespace holdfast::storage
