#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "storage/s3_store.h"
#include "storage/uri_names.h"
#include "storage/uri_parameters.h"

namespace holdfast::storage {

namespace {

/// A bucket can be part of the host's name only where that is one: not an address, nor a lone word
/// such as "localhost".
bool can_have_subdomains(const std::string& endpoint) {
  std::string host = endpoint.substr(endpoint.find("://") + 3);
  if (host.starts_with('[')) return false;
  host = host.substr(0, host.find(':'));
  return host.find('.') != std::string::npos &&
         host.find_first_not_of("0123456789.") != std::string::npos;
}

/// Source: Amazon S3 User Guide, "General purpose bucket naming rules", without the least length:
/// what is too short for Amazon it refuses itself. A store of another maker (whose endpoint only
/// administrators may name) may take more where the name does not become part of its host.
void check_names(const S3Options& options) {
  NameRule bucket = {.what = "the bucket of the s3 URI", .extra = "-."};
  NameRule region = {.what = "AWS_REGION", .extra = "-"};
  if (!options.endpoint.empty()) region.extra = "-._ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  if (!options.endpoint.empty() && options.path_style) {
    bucket.extra = "-._:ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    bucket.longest = 255;
  }
  check_name(options.bucket, bucket);
  if (!options.region.empty()) check_name(options.region, region);
}

void parse_object_settings(UriParameters& parameters, S3Options& options) {
  constexpr std::array<std::string_view, 9> kClasses = {
      "STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING",
      "GLACIER",  "DEEP_ARCHIVE",       "OUTPOSTS",    "GLACIER_IR"};
  options.storage_class = parameters.take("S3_STORAGE_CLASS");
  if (!options.storage_class.empty() &&
      std::find(kClasses.begin(), kClasses.end(), options.storage_class) == kClasses.end()) {
    throw invalid_parameter(
        fmt::format("unsupported value {} for S3_STORAGE_CLASS", options.storage_class));
  }
  options.encryption_mode = parameters.take("AWS_SERVER_ENC_MODE");
  options.kms_key_id = parameters.take("AWS_SERVER_KMS_ID");
  if (options.encryption_mode == "aws:kms" && options.kms_key_id.empty()) {
    throw invalid_parameter(
        "AWS_SERVER_KMS_ID param must be set when using aws:kms server side encryption mode.");
  }
  if (!options.encryption_mode.empty() && options.encryption_mode != "aws:kms" &&
      options.encryption_mode != "AES256") {
    throw invalid_parameter(
        fmt::format("unsupported value {} for AWS_SERVER_ENC_MODE", options.encryption_mode))
        .hint("Supported values are AES256 and aws:kms.");
  }
  if (!options.kms_key_id.empty() && options.encryption_mode != "aws:kms") {
    throw invalid_parameter("AWS_SERVER_KMS_ID is given without AWS_SERVER_ENC_MODE=aws:kms");
  }
}

}  // namespace

S3Options parse_s3_uri(const StorageUri& uri, std::string_view shown) {
  if (uri.host.empty()) {
    throw invalid_parameter("empty host component; s3 URI must specify a target bucket");
  }
  UriParameters parameters(uri, "S3");
  S3Options options = {.bucket = uri.host,
                       .prefix = normalize_path(uri.path, shown, "the bucket"),
                       .endpoint = normalize_aws_endpoint(parameters.take("AWS_ENDPOINT")),
                       .region = parameters.take("AWS_REGION")};
  options.auth = parse_aws_auth(parameters);
  parse_object_settings(parameters, options);
  options.skip_checksum = parameters.take_flag("AWS_SKIP_CHECKSUM");
  options.skip_tls_verify = parameters.take_flag("AWS_SKIP_TLS_VERIFY");
  options.path_style = parameters.take_flag("AWS_USE_PATH_STYLE");
  parameters.finish();
  // A dot in the bucket's name would be one more level than the certificate's wildcard covers.
  if (options.endpoint.empty()) {
    options.path_style |= options.bucket.find('.') != std::string::npos;
  } else {
    options.path_style |= !can_have_subdomains(options.endpoint);
  }
  check_names(options);
  return options;
}

}  // namespace holdfast::storage
