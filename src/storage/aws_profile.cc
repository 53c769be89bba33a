#include "storage/aws_profile.h"

#include <fmt/format.h>

#include "base/error.h"

namespace holdfast::storage {

namespace {

/// A chain of source profiles longer than this goes in a circle.
constexpr int kDeepest = 8;

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

AwsProfiles read_profiles(const CloudEnvironment& environment) {
  const std::string home = environment.variable("HOME");
  const auto path_of = [&](const char* variable, const char* usual) {
    const std::string named = environment.variable(variable);
    return named.empty() && !home.empty() ? home + usual : named;
  };
  AwsProfiles profiles;
  for (const std::string& path : {path_of("AWS_CONFIG_FILE", "/.aws/config"),
                                  path_of("AWS_SHARED_CREDENTIALS_FILE", "/.aws/credentials")}) {
    if (path.empty()) continue;
    const auto text = environment.file(path);
    if (!text) continue;
    for (auto& [name, settings] : parse_aws_profiles(*text)) {
      for (auto& [setting, value] : settings) profiles[name][setting] = value;
    }
  }
  return profiles;
}

std::string profile_name(const CloudEnvironment& environment) {
  const std::string named = environment.variable("AWS_PROFILE");
  return named.empty() ? "default" : named;
}

/// Keys of one of the metadata services, for a profile with credential_source.
class ServiceSource : public AwsCredentialSource {
 public:
  using Ask = std::optional<AwsCredentials> (*)(const CloudEnvironment&, const Stop&);
  ServiceSource(CloudEnvironment environment, Ask ask)
      : environment_(std::move(environment)), ask_(ask) {}
  AwsCredentials fetch(const Stop& stop) override {
    if (auto found = ask_(environment_, stop)) return *found;
    throw Error(sqlstate::kInvalidAuthorization,
                "the credential_source of the AWS profile has no credentials");
  }

 private:
  const CloudEnvironment environment_;
  const Ask ask_;
};

class WebIdentitySource : public AwsCredentialSource {
 public:
  WebIdentitySource(CloudEnvironment environment, std::map<std::string, std::string> settings,
                    AwsTokenService service)
      : environment_(std::move(environment)),
        settings_(std::move(settings)),
        service_(std::move(service)) {}
  AwsCredentials fetch(const Stop& stop) override {
    const auto name = settings_.find("role_session_name");
    return aws_web_identity_credentials(
        settings_.at("role_arn"), settings_.at("web_identity_token_file"),
        name == settings_.end() ? "" : name->second, service_, environment_, stop);
  }

 private:
  const CloudEnvironment environment_;
  const std::map<std::string, std::string> settings_;
  const AwsTokenService service_;
};

class ProfileReader {
 public:
  ProfileReader(const CloudEnvironment& environment, const std::string& region)
      : environment_(environment),
        profiles_(read_profiles(environment)),
        service_(aws_token_service(environment, region)) {}

  std::unique_ptr<AwsCredentialSource> source(const std::string& name, int depth = 0) const {
    const auto profile = profiles_.find(name);
    if (profile == profiles_.end()) return nullptr;
    const auto& settings = profile->second;
    const auto get = [&](const char* setting) {
      const auto found = settings.find(setting);
      return found == settings.end() ? std::string() : found->second;
    };
    if (!get("role_arn").empty() && !get("web_identity_token_file").empty()) {
      return std::make_unique<WebIdentitySource>(environment_, settings, service_);
    }
    // A profile with a role that names itself as the source uses its own keys.
    const bool own_keys = get("source_profile") == name && depth > 0;
    if (!get("role_arn").empty() && !own_keys) {
      std::unique_ptr<AwsCredentialSource> base;
      if (!get("source_profile").empty() && depth < kDeepest) {
        base = source(get("source_profile"), depth + 1);
      } else if (!get("credential_source").empty()) {
        base = of_service(get("credential_source"));
      }
      if (!base) throw incomplete(name);
      return aws_assume_role(std::move(base),
                             {.arn = get("role_arn"), .external_id = get("external_id")}, service_,
                             environment_);
    }
    if (!get("aws_access_key_id").empty() && !get("aws_secret_access_key").empty()) {
      return aws_static_credentials({.access_key_id = get("aws_access_key_id"),
                                     .secret_access_key = get("aws_secret_access_key"),
                                     .session_token = get("aws_session_token")});
    }
    for (const char* setting :
         {"credential_process", "sso_session", "sso_start_url", "login_session"}) {
      if (get(setting).empty()) continue;
      throw Error(sqlstate::kFeatureNotSupported,
                  fmt::format("{} in the AWS profile \"{}\" is not supported", setting, name));
    }
    return nullptr;
  }

 private:
  static Error incomplete(const std::string& name) {
    return Error(sqlstate::kConfigFileError,
                 fmt::format("the role_arn of the AWS profile \"{}\" has no usable source_profile "
                             "or credential_source",
                             name));
  }

  std::unique_ptr<AwsCredentialSource> of_service(const std::string& service) const {
    if (service == "Environment") {
      const auto keys = aws_environment_credentials(environment_);
      return keys ? aws_static_credentials(keys->keys) : nullptr;
    }
    if (service == "EcsContainer") {
      return std::make_unique<ServiceSource>(environment_, aws_container_credentials);
    }
    if (service == "Ec2InstanceMetadata") {
      return std::make_unique<ServiceSource>(environment_, aws_instance_credentials);
    }
    return nullptr;
  }

  const CloudEnvironment& environment_;
  const AwsProfiles profiles_;
  const AwsTokenService service_;
};

}  // namespace

AwsProfiles parse_aws_profiles(std::string_view text) {
  AwsProfiles profiles;
  std::map<std::string, std::string>* section = nullptr;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view raw = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string_view line = trim(raw);
    // Indented lines belong to settings with parts (such as "s3 ="), which are not ours.
    if (line.empty() || line.front() == '#' || line.front() == ';' || raw.front() == ' ' ||
        raw.front() == '\t') {
      continue;
    }
    if (line.front() == '[') {
      std::string_view name = trim(line.substr(1, line.find(']') - 1));
      if (name.starts_with("profile ")) name = trim(name.substr(8));
      section = &profiles[std::string(name)];
      continue;
    }
    const std::size_t equals = line.find('=');
    if (section == nullptr || equals == line.npos) continue;
    (*section)[std::string(trim(line.substr(0, equals)))] = trim(line.substr(equals + 1));
  }
  return profiles;
}

std::unique_ptr<AwsCredentialSource> aws_profile_credentials(const CloudEnvironment& environment,
                                                             const std::string& region) {
  return ProfileReader(environment, region).source(profile_name(environment));
}

std::string aws_configured_region(const CloudEnvironment& environment) {
  for (const char* name : {"AWS_REGION", "AWS_DEFAULT_REGION"}) {
    if (std::string region = environment.variable(name); !region.empty()) return region;
  }
  const AwsProfiles profiles = read_profiles(environment);
  const auto profile = profiles.find(profile_name(environment));
  if (profile == profiles.end()) return "";
  const auto region = profile->second.find("region");
  return region == profile->second.end() ? "" : region->second;
}

}  // namespace holdfast::storage
