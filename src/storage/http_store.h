#pragma once

#include <memory>
#include <string>

#include "net/http.h"
#include "storage/object_store.h"

namespace holdfast::storage {

struct HttpStoreOptions {
  /// "https://user:password@host/path" without a trailing "/"; sent as it is.
  std::string base_url;
  std::string query = {};  ///< for every request, encoded; may be empty
  std::string description = {};
};

/// Objects of a plain web server: read with GET and HEAD, written with PUT and DELETE where the
/// server lets them. HTTP has no lists: those throw kFeatureNotSupported.
std::unique_ptr<ObjectStore> open_http_store(const HttpStoreOptions& options,
                                             std::unique_ptr<net::HttpTransport> http);

}  // namespace holdfast::storage
