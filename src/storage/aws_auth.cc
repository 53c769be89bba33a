#include "storage/aws_auth.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "storage/uri_names.h"

namespace holdfast::storage {

namespace {}  // namespace

std::string normalize_aws_endpoint(std::string endpoint) {
  if (endpoint.empty()) return endpoint;
  if (endpoint.find("://") == std::string::npos) endpoint = "https://" + endpoint;
  while (endpoint.ends_with('/')) endpoint.pop_back();
  if ((!endpoint.starts_with("https://") && !endpoint.starts_with("http://")) ||
      net::origin_of(endpoint) != endpoint) {
    throw invalid_parameter(
        "AWS_ENDPOINT must be a host with an optional port, such as https://host:9000");
  }
  return endpoint;
}

AwsAuthOptions parse_aws_auth(UriParameters& parameters) {
  AwsAuthOptions options;
  const std::string auth = parameters.take("AUTH");
  options.keys = {.access_key_id = parameters.take("AWS_ACCESS_KEY_ID"),
                  .secret_access_key = parameters.take("AWS_SECRET_ACCESS_KEY"),
                  .session_token = parameters.take("AWS_SESSION_TOKEN")};
  // A "+" that nobody encoded has become a space on its way; secrets have no spaces.
  std::replace(options.keys.secret_access_key.begin(), options.keys.secret_access_key.end(), ' ',
               '+');
  const std::string roles = parameters.take("ASSUME_ROLE");
  if (!roles.empty()) options.roles = parse_aws_roles(roles);

  // The wording of CockroachDB (reference, section 6), which scripts look for.
  if (auth.empty() || auth == "specified") {
    for (const auto& [name, value] :
         {std::pair("AWS_ACCESS_KEY_ID", &options.keys.access_key_id),
          std::pair("AWS_SECRET_ACCESS_KEY", &options.keys.secret_access_key)}) {
      if (value->empty()) {
        throw invalid_parameter(fmt::format("AUTH is set to 'specified', but {} is not set", name));
      }
    }
  } else if (auth == "implicit") {
    if (!options.keys.access_key_id.empty() || !options.keys.secret_access_key.empty()) {
      throw invalid_parameter("AUTH is set to 'implicit', but keys are given in the storage URI");
    }
    options.implicit = true;
  } else {
    throw invalid_parameter(fmt::format("unsupported value {} for AUTH", auth));
  }
  return options;
}

std::unique_ptr<AwsCredentialSource> make_aws_credentials(const AwsAuthOptions& options,
                                                          const std::string& region,
                                                          const std::string& endpoint,
                                                          const CloudEnvironment& environment) {
  std::unique_ptr<AwsCredentialSource> source = options.implicit
                                                    ? aws_implicit_credentials(environment, region)
                                                    : aws_static_credentials(options.keys);
  AwsTokenService service = aws_token_service(environment, region);
  // A service of another maker has a token service of its own, at the same place.
  if (!endpoint.empty() && environment.variable("AWS_ENDPOINT_URL_STS").empty()) {
    service.endpoint = endpoint;
  }
  for (const AwsRole& role : options.roles) {
    source = aws_assume_role(std::move(source), role, service, environment);
  }
  return source;
}

}  // namespace holdfast::storage
