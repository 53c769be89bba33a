#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/aws_credentials.h"
#include "storage/uri_parameters.h"

namespace holdfast::storage {

/// How a URI of an AWS service says who asks.
struct AwsAuthOptions {
  bool implicit = false;
  AwsKeys keys = {};  ///< unless implicit
  std::vector<AwsRole> roles = {};
};

/// Takes AUTH, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and ASSUME_ROLE. Throws
/// kInvalidParameterValue for values that are missing or impossible.
AwsAuthOptions parse_aws_auth(UriParameters& parameters);

/// "https://host:9000" of "host:9000" and "https://host:9000/"; empty for an empty one. Throws
/// kInvalidParameterValue.
std::string normalize_aws_endpoint(std::string endpoint);

/// `endpoint` is that of the service, where it has one of its own.
std::unique_ptr<AwsCredentialSource> make_aws_credentials(const AwsAuthOptions& options,
                                                          const std::string& region,
                                                          const std::string& endpoint,
                                                          const CloudEnvironment& environment);

}  // namespace holdfast::storage
