#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/http.h"
#include "storage/azure_auth.h"
#include "storage/cloud_environment.h"
#include "storage/object_store.h"
#include "storage/store_access.h"
#include "storage/uri.h"

namespace holdfast::storage {

struct AzureOptions {
  std::string container;
  std::string prefix = {};  ///< a key, or empty
  std::string account = {};
  std::string endpoint = {};  ///< "https://account.blob.core.windows.net", without a trailing "/"
  bool own_endpoint = false;  ///< given in the URI
  AzureAuthOptions auth = {};
};

/// Throws kInvalidParameterValue for parameters that are unknown, missing or impossible. `shown` is
/// the URI without its secrets.
AzureOptions parse_azure_uri(const StorageUri& uri, std::string_view shown);

struct AzureParts {
  std::unique_ptr<net::HttpTransport> http;
  CloudEnvironment environment;  ///< its transport may be `http`
  std::string description;
  StoreAccess access = {};
};

/// Objects as block blobs of a container.
std::unique_ptr<ObjectStore> open_azure_store(const AzureOptions& options, AzureParts parts);

}  // namespace holdfast::storage
