#include "storage/aws_credentials.h"

#include <fmt/format.h>

#include "base/error.h"
#include "storage/aws_profile.h"

namespace holdfast::storage {

namespace {

class StaticSource : public AwsCredentialSource {
 public:
  explicit StaticSource(AwsKeys keys) : keys_(std::move(keys)) {}
  AwsCredentials fetch(const Stop& /*stop*/) override { return {.keys = keys_}; }
  bool renewable() const override { return false; }

 private:
  const AwsKeys keys_;
};

class ImplicitSource : public AwsCredentialSource {
 public:
  ImplicitSource(CloudEnvironment environment, std::string region)
      : environment_(std::move(environment)), region_(std::move(region)) {}

  AwsCredentials fetch(const Stop& stop) override {
    if (const auto found = aws_environment_credentials(environment_)) return *found;
    const std::string token_file = environment_.variable("AWS_WEB_IDENTITY_TOKEN_FILE");
    const std::string role = environment_.variable("AWS_ROLE_ARN");
    if (!token_file.empty() && !role.empty()) {
      return aws_web_identity_credentials(
          role, token_file, environment_.variable("AWS_ROLE_SESSION_NAME"),
          aws_token_service(environment_, region_), environment_, stop);
    }
    if (const auto profile = aws_profile_credentials(environment_, region_)) {
      return profile->fetch(stop);
    }
    if (const auto found = aws_container_credentials(environment_, stop)) return *found;
    try {
      if (const auto found = aws_instance_credentials(environment_, stop)) return *found;
    } catch (const Error& error) {
      if (error.retry() != Retry::Briefly) throw;
      throw none_found(fmt::format(" As to the last, {}.", error.message())).retry(Retry::Briefly);
    }
    throw none_found("");
  }

 private:
  static Error none_found(std::string_view reason) {
    return Error(sqlstate::kInvalidAuthorization, "no AWS credentials found")
        .detail(fmt::format("Looked at the environment, the shared credentials and configuration "
                            "files, and the container's and instance's metadata services.{}",
                            reason))
        .hint("Set up one of these for the daemon, or use AUTH=specified with keys.");
  }

  const CloudEnvironment environment_;
  const std::string region_;
};

}  // namespace

AwsKeys AwsCredentialCache::get(const Stop& stop) {
  return kept_.get([&](const Stop& until) { return source_->fetch(until); }, stop).keys;
}

bool AwsCredentialCache::reject(const AwsKeys& keys) {
  if (!source_->renewable()) return false;
  // Another thread may have fetched new ones meanwhile.
  kept_.forget_if([&](const AwsCredentials& kept) {
    return kept.keys.access_key_id == keys.access_key_id &&
           kept.keys.session_token == keys.session_token;
  });
  return true;
}

std::unique_ptr<AwsCredentialSource> aws_static_credentials(AwsKeys keys) {
  return std::make_unique<StaticSource>(std::move(keys));
}

std::unique_ptr<AwsCredentialSource> aws_implicit_credentials(const CloudEnvironment& environment,
                                                              const std::string& region) {
  return std::make_unique<ImplicitSource>(environment, region);
}

std::optional<AwsCredentials> aws_environment_credentials(const CloudEnvironment& environment) {
  AwsKeys keys = {.access_key_id = environment.variable("AWS_ACCESS_KEY_ID"),
                  .secret_access_key = environment.variable("AWS_SECRET_ACCESS_KEY"),
                  .session_token = environment.variable("AWS_SESSION_TOKEN")};
  if (keys.access_key_id.empty() || keys.secret_access_key.empty()) return std::nullopt;
  return AwsCredentials{.keys = std::move(keys)};
}

std::vector<AwsRole> parse_aws_roles(std::string_view text) {
  constexpr std::string_view kExternalId = "external_id=";
  std::vector<AwsRole> roles;
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view one = text.substr(0, comma);
    const std::size_t semicolon = one.find(';');
    AwsRole role = {.arn = std::string(one.substr(0, semicolon))};
    if (semicolon != one.npos) {
      const std::string_view more = one.substr(semicolon + 1);
      if (!more.starts_with(kExternalId)) {
        throw Error(sqlstate::kInvalidParameterValue,
                    fmt::format("malformed ASSUME_ROLE: \"{}\" has something other than an "
                                "external_id behind its \";\"",
                                role.arn));
      }
      role.external_id = more.substr(kExternalId.size());
    }
    if (role.arn.empty()) {
      throw Error(sqlstate::kInvalidParameterValue, "malformed ASSUME_ROLE: a role is empty");
    }
    roles.push_back(std::move(role));
    if (comma == text.npos) return roles;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace holdfast::storage
