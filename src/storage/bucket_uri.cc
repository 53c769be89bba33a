#include "storage/bucket_uri.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/base64.h"
#include "storage/percent.h"

namespace holdfast::storage {

namespace {

using Json = nlohmann::json;

/// What becomes of a key: a parameter of the URI, nothing, or a refusal.
struct Key {
  std::string_view name;
  std::string_view parameter = {};  ///< empty: the key has no effect here
  std::string_view missing = {};    ///< not empty: what is not supported
};

constexpr std::string_view kCustomerKeys = "server-side encryption with a key of the customer's";

// How large the parts of an upload are is the driver's business; the S3 driver signs for a region.
constexpr Key kS3Config[] = {
    {.name = "region", .parameter = "AWS_REGION"},
    {.name = "endpoint_url", .parameter = "AWS_ENDPOINT"},
    {.name = "s3_force_path_style", .parameter = "AWS_USE_PATH_STYLE"},
    {.name = "x-amz-server-side-encryption", .parameter = "AWS_SERVER_ENC_MODE"},
    {.name = "x-amz-server-side-encryption-aws-kms-key-id", .parameter = "AWS_SERVER_KMS_ID"},
    {.name = "multipart_chunk_size_mb"},
    {.name = "compatibility_mode"},
    {.name = "x-amz-server-side-encryption-customer-algorithm", .missing = kCustomerKeys},
    {.name = "x-amz-server-side-encryption-customer-key", .missing = kCustomerKeys},
    {.name = "x-amz-server-side-encryption-customer-key-MD5", .missing = kCustomerKeys},
    {.name = "sts_regional_endpoints", .missing = "the choice of an endpoint of STS"},
};
constexpr Key kS3Credentials[] = {
    {.name = "aws_access_key_id", .parameter = "AWS_ACCESS_KEY_ID"},
    {.name = "aws_secret_access_key", .parameter = "AWS_SECRET_ACCESS_KEY"},
    {.name = "aws_session_token", .parameter = "AWS_SESSION_TOKEN"},
    {.name = "role_arn", .parameter = "ASSUME_ROLE"},
};
constexpr Key kAzureCredentials[] = {
    {.name = "account_name", .parameter = "AZURE_ACCOUNT_NAME"},
    {.name = "account_key", .parameter = "AZURE_ACCOUNT_KEY"},
};
constexpr std::string_view kHmac = "HMAC keys for Google Cloud Storage";
constexpr Key kHmacCredentials[] = {
    {.name = "access_id", .missing = kHmac},
    {.name = "secret_key", .missing = kHmac},
};

Json parse_object(const std::string& text, std::string_view clause) {
  if (text.empty()) return Json::object();
  Json object = Json::parse(text, nullptr, false);
  // The parser's own message would quote what may be a secret.
  if (!object.is_object()) {
    throw Error(sqlstate::kInvalidParameterValue, fmt::format("{} is not a JSON object", clause));
  }
  return object;
}

/// A switch may be written as text or as a boolean.
std::string text_of(const Json& value, std::string_view key, std::string_view clause) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number_integer()) return std::to_string(value.get<std::int64_t>());
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("invalid value for \"{}\" in {}", key, clause));
}

class UriBuilder {
 public:
  UriBuilder(std::string_view scheme, std::string_view path) : uri_(scheme) {
    while (path.starts_with('/')) path.remove_prefix(1);
    while (path.ends_with('/')) path.remove_suffix(1);
    if (path.empty()) {
      throw Error(sqlstate::kInvalidParameterValue, "the path names no bucket");
    }
    uri_ += "://" + percent_encode_path(path);
  }

  void add(std::string_view name, std::string_view value) {
    uri_ += fmt::format("{}{}={}", has_parameters_ ? '&' : '?', name, percent_encode(value));
    has_parameters_ = true;
  }

  /// Takes the keys of `object`; gives how many became parameters.
  std::size_t add_all(const Json& object, std::span<const Key> keys, std::string_view clause) {
    std::size_t added = 0;
    for (const auto& [name, value] : object.items()) {
      const auto key = std::ranges::find(keys, std::string_view(name), &Key::name);
      if (key == keys.end()) {
        throw Error(sqlstate::kInvalidParameterValue,
                    fmt::format("unrecognized key \"{}\" in {}", name, clause));
      }
      if (!key->missing.empty()) {
        throw Error(sqlstate::kFeatureNotSupported,
                    fmt::format("key \"{}\" in {} is not supported yet", name, clause))
            .detail(fmt::format("What is missing is {}.", key->missing));
      }
      const std::string text = text_of(value, name, clause);
      if (key->parameter.empty() || text.empty()) continue;
      add(key->parameter, text);
      ++added;
    }
    return added;
  }

  std::string take() { return std::move(uri_); }

 private:
  std::string uri_;
  bool has_parameters_ = false;
};

std::string s3_uri(const Bucket& bucket, const Json& config, const Json& credentials) {
  UriBuilder uri("s3", bucket.path);
  uri.add_all(config, kS3Config, "CONFIG");
  uri.add_all(credentials, kS3Credentials, "CREDENTIALS");
  if (!credentials.contains("aws_access_key_id") &&
      !credentials.contains("aws_secret_access_key")) {
    uri.add("AUTH", "implicit");
  }
  return uri.take();
}

std::string azure_uri(const Bucket& bucket, const Json& config, const Json& credentials) {
  UriBuilder uri("azure-blob", bucket.path);
  uri.add_all(config, {}, "CONFIG");
  uri.add_all(credentials, kAzureCredentials, "CREDENTIALS");
  if (!credentials.contains("account_key")) uri.add("AUTH", "implicit");
  return uri.take();
}

/// CREDENTIALS is the key file of a service account: our driver speaks Google's own protocol. HMAC
/// keys are for its S3 interface, and it is not known that a put there can be made to fail when the
/// object exists, which locks depend on.
std::string gcs_uri(const Bucket& bucket, const Json& config, const Json& credentials) {
  UriBuilder uri("gs", bucket.path);
  uri.add_all(config, {}, "CONFIG");
  if (credentials.empty()) {
    uri.add("AUTH", "implicit");
    return uri.take();
  }
  if (!credentials.contains("type")) {
    try {
      uri.add_all(credentials, kHmacCredentials, "CREDENTIALS");
    } catch (Error& error) {
      error.hint("Give the JSON text of a service account's key file as CREDENTIALS.");
      throw;
    }
  }
  uri.add("AUTH", "specified");
  uri.add("CREDENTIALS", crypto::to_base64(as_bytes(bucket.credentials)));
  return uri.take();
}

}  // namespace

std::string bucket_uri(const Bucket& bucket) {
  const Json config = parse_object(bucket.config, "CONFIG");
  const Json credentials = parse_object(bucket.credentials, "CREDENTIALS");
  switch (bucket.kind) {
    case BucketKind::S3:
      return s3_uri(bucket, config, credentials);
    case BucketKind::Azure:
      return azure_uri(bucket, config, credentials);
    case BucketKind::Gcs:
      break;
  }
  return gcs_uri(bucket, config, credentials);
}

}  // namespace holdfast::storage
