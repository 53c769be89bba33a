#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/stop.h"
#include "storage/aws_signer.h"
#include "storage/cloud_environment.h"
#include "storage/renewed.h"

namespace holdfast::storage {

struct AwsCredentials {
  AwsKeys keys;
  std::optional<Time> expires = std::nullopt;  ///< absent: never
};

/// Where keys come from. Called by one or more threads.
class AwsCredentialSource {
 public:
  virtual ~AwsCredentialSource() = default;
  virtual AwsCredentials fetch(const Stop& stop) = 0;
  /// False for keys that are what they are: fetching again brings no others.
  virtual bool renewable() const { return true; }
};

/// Keeps keys as Renewed does. Thread-safe.
class AwsCredentialCache {
 public:
  AwsCredentialCache(std::unique_ptr<AwsCredentialSource> source, const Clock& clock)
      : source_(std::move(source)), kept_(clock) {}

  AwsKeys get(const Stop& stop);
  /// The server refused these keys as expired. False when there are no others to be had.
  bool reject(const AwsKeys& keys);

 private:
  const std::unique_ptr<AwsCredentialSource> source_;
  Renewed<AwsCredentials> kept_;
};

/// The keys of the URI.
std::unique_ptr<AwsCredentialSource> aws_static_credentials(AwsKeys keys);

/// What the AWS SDKs look through, in their order: AWS_ACCESS_KEY_ID and its companions; a web
/// identity token (AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN); the shared credentials and
/// configuration files; the container's credentials service; the instance's metadata service.
/// `region` is for requests to the token service.
std::unique_ptr<AwsCredentialSource> aws_implicit_credentials(const CloudEnvironment& environment,
                                                              const std::string& region);

/// The parts of it, each null or absent where it does not apply.
std::optional<AwsCredentials> aws_environment_credentials(const CloudEnvironment& environment);
std::optional<AwsCredentials> aws_container_credentials(const CloudEnvironment& environment,
                                                        const Stop& stop);
/// Instance metadata service, version 2. Absent when it knows no role. Throws kConnectionFailure,
/// with Retry::Briefly, when no such service answers.
std::optional<AwsCredentials> aws_instance_credentials(const CloudEnvironment& environment,
                                                       const Stop& stop);

struct AwsRole {
  std::string arn;
  std::string external_id = {};
};
/// "arn1,arn2;external_id=x": the last is the target, earlier ones lead to it. Throws
/// kInvalidParameterValue.
std::vector<AwsRole> parse_aws_roles(std::string_view text);

struct AwsTokenService {
  std::string endpoint;  ///< "https://sts.eu-west-1.amazonaws.com"
  std::string region;
};
/// That of the region, or the one that AWS_ENDPOINT_URL_STS names.
AwsTokenService aws_token_service(const CloudEnvironment& environment, const std::string& region);

/// AssumeRole with the keys of `base`.
std::unique_ptr<AwsCredentialSource> aws_assume_role(std::unique_ptr<AwsCredentialSource> base,
                                                     const AwsRole& role,
                                                     const AwsTokenService& service,
                                                     const CloudEnvironment& environment);
/// AssumeRoleWithWebIdentity with the token in `token_file`, read anew each time.
AwsCredentials aws_web_identity_credentials(const std::string& role_arn,
                                            const std::string& token_file,
                                            const std::string& session_name,
                                            const AwsTokenService& service,
                                            const CloudEnvironment& environment, const Stop& stop);

}  // namespace holdfast::storage
