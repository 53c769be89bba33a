#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <pugixml.hpp>
#include <string>
#include <string_view>

#include "base/error.h"
#include "net/http.h"
#include "storage/aws_signer.h"
#include "storage/azure_auth.h"
#include "storage/azure_store.h"
#include "storage/listing.h"

namespace holdfast::storage {

/// Authorised requests to one container. Thread-safe.
class AzureClient {
 public:
  struct Call {
    net::HttpMethod method = net::HttpMethod::Get;
    std::string key = {};  ///< full; empty: the container
    QueryParameters query = {};
    net::HttpHeaders headers = {};
    ByteView body = {};
    std::optional<MutableByteView> into = std::nullopt;
  };

  AzureClient(const AzureOptions& options, AzureParts parts);

  const AzureOptions& options() const { return options_; }
  const KeyPlace& place() const { return place_; }
  const AzureParts& parts() const { return parts_; }

  /// The answer, whatever its status; with Retry::Safe where the next try has another token.
  net::HttpResponse send(const Call& call, const Stop& stop);

  /// Calls `visit` for each page of the names that begin with `full_prefix`.
  void list(const std::string& full_prefix, const QueryParameters& query,
            const std::function<void(const pugi::xml_node& page, ListPages& pages)>& visit,
            const Stop& stop);

  /// The name of an entry of a list.
  static std::string name_of(const pugi::xml_node& entry);
  static std::string code_of(const net::HttpResponse& response);
  /// It is the container that is missing, which must not look like an empty store.
  static bool no_container(const net::HttpResponse& response);
  static Error failure(std::string_view verb, const std::string& key,
                       const net::HttpResponse& response);

 private:
  const AzureOptions options_;
  const KeyPlace place_;
  const AzureParts parts_;
  const std::unique_ptr<AzureAuth> auth_;
};

/// The versions of a container's blobs, which the account keeps when its versioning is turned on.
std::unique_ptr<ObjectStore> open_azure_versions(const AzureOptions& options, AzureParts parts);

}  // namespace holdfast::storage
