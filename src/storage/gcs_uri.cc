#include <fmt/format.h>

#include "base/error.h"
#include "crypto/base64.h"
#include "storage/gcs_store.h"
#include "storage/uri_names.h"
#include "storage/uri_parameters.h"

namespace holdfast::storage {

namespace {

std::vector<std::string> split_roles(std::string_view text) {
  std::vector<std::string> roles;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    if (comma == 0) throw invalid_parameter("malformed ASSUME_ROLE: a role is empty");
    roles.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return roles;
}

}  // namespace

GcsAuthOptions parse_gcs_auth(UriParameters& parameters, const std::string& missing) {
  GcsAuthOptions options;
  const std::string auth = parameters.take("AUTH");
  const std::string credentials = parameters.take("CREDENTIALS");
  options.bearer_token = parameters.take("BEARER_TOKEN");
  options.roles = split_roles(parameters.take("ASSUME_ROLE"));

  if (auth == "implicit") {
    if (!credentials.empty() || !options.bearer_token.empty()) {
      throw invalid_parameter(
          "AUTH is set to 'implicit', but secrets are given in the storage URI");
    }
    options.implicit = true;
    return options;
  }
  if (!auth.empty() && auth != "specified") {
    throw invalid_parameter(fmt::format("unsupported value {} for AUTH", auth));
  }
  if (!options.bearer_token.empty()) {
    if (!credentials.empty())
      throw invalid_parameter("CREDENTIALS and BEARER_TOKEN exclude each other");
    return options;
  }
  if (credentials.empty()) throw invalid_parameter(missing);
  const auto json = crypto::from_base64(credentials);
  if (!json) throw invalid_parameter("CREDENTIALS is not a base64 text");
  options.credentials_json = as_text(*json);
  return options;
}

GcsOptions parse_gcs_uri(const StorageUri& uri, std::string_view shown) {
  if (uri.host.empty()) throw invalid_parameter("the gs URI must name a bucket");
  UriParameters parameters(uri, "gs");
  GcsOptions options = {.bucket = uri.host,
                        .prefix = normalize_path(uri.path, shown, "the bucket"),
                        .billing_project = parameters.take("GOOGLE_BILLING_PROJECT")};
  // Source: Google Cloud Storage, "About Cloud Storage buckets", "Bucket names".
  check_name(options.bucket, {.what = "the bucket of the gs URI", .extra = "-_.", .longest = 222});
  std::string endpoint = parameters.take("GOOGLE_ENDPOINT");
  while (endpoint.ends_with('/')) endpoint.pop_back();
  if (!endpoint.empty()) {
    if ((!endpoint.starts_with("https://") && !endpoint.starts_with("http://")) ||
        net::origin_of(endpoint) != endpoint) {
      throw invalid_parameter(
          "GOOGLE_ENDPOINT must be a URL without a path, such as https://host:4443");
    }
    options.endpoint = endpoint;
    options.own_endpoint = true;
  }
  // The wording of CockroachDB (reference, section 6), which scripts look for.
  options.auth =
      parse_gcs_auth(parameters, "CREDENTIALS must be set unless \"AUTH\" is \"implicit\"");
  if (options.own_endpoint) options.auth.token_server = GcsTokenServer::Any;
  parameters.finish();
  return options;
}

}  // namespace holdfast::storage
