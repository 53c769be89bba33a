#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/http.h"
#include "storage/aws_auth.h"
#include "storage/object_store.h"
#include "storage/store_access.h"
#include "storage/uri.h"

namespace holdfast::storage {

struct S3Options {
  std::string bucket = {};
  std::string prefix = {};    ///< a key, or empty
  std::string endpoint = {};  ///< "https://host:port"; empty: Amazon's
  std::string region = {};    ///< empty: found out
  bool path_style = false;
  /// Whether an object carries a checksum that the store keeps (x-amz-checksum-sha256). The request
  /// itself is always protected by its signature.
  bool skip_checksum = false;
  bool skip_tls_verify = false;
  std::string storage_class = {};
  std::string encryption_mode = {};  ///< "AES256" or "aws:kms"
  std::string kms_key_id = {};
  AwsAuthOptions auth = {};
};

/// Throws kInvalidParameterValue for parameters that are unknown, missing or impossible. `shown` is
/// the URI without its secrets.
S3Options parse_s3_uri(const StorageUri& uri, std::string_view shown);

struct S3Parts {
  std::unique_ptr<net::HttpTransport> http;
  CloudEnvironment environment;  ///< its transport may be `http`
  std::string description;
  StoreAccess access = {};
};

/// Objects of an S3 bucket. OnlyIfAbsent is If-None-Match: *. A store at an endpoint of its own is
/// tried once to find out whether it honours that; where it does not, an object is looked up before
/// it is put, which leaves a moment in which two writers of one name do not see each other.
std::unique_ptr<ObjectStore> open_s3_store(const S3Options& options, S3Parts parts);

}  // namespace holdfast::storage
