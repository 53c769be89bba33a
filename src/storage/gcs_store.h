#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/http.h"
#include "storage/gcs_auth.h"
#include "storage/object_store.h"
#include "storage/store_access.h"
#include "storage/uri.h"

namespace holdfast::storage {

struct GcsOptions {
  std::string bucket;
  std::string prefix = {};  ///< a key, or empty
  std::string endpoint = "https://storage.googleapis.com";
  bool own_endpoint = false;         ///< given in the URI
  std::string billing_project = {};  ///< for buckets whose requesters pay
  GcsAuthOptions auth = {};
};

/// Throws kInvalidParameterValue for parameters that are unknown, missing or impossible. `shown` is
/// the URI without its secrets.
GcsOptions parse_gcs_uri(const StorageUri& uri, std::string_view shown);

struct GcsParts {
  std::unique_ptr<net::HttpTransport> http;
  CloudEnvironment environment;  ///< its transport may be `http`
  std::string description;
  StoreAccess access = {};
};

/// Objects of a Google Cloud Storage bucket, through its JSON interface.
std::unique_ptr<ObjectStore> open_gcs_store(const GcsOptions& options, GcsParts parts);

}  // namespace holdfast::storage
