// Credentials that a machine's own services hand out.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "storage/aws_credentials.h"
#include "storage/http_errors.h"

namespace holdfast::storage {

namespace {

/// What both services answer. Source: AWS, "Retrieve security credentials from instance metadata"
/// and "Container credential provider".
AwsCredentials parse_credentials(ByteView body, std::string_view service) {
  const auto document = nlohmann::json::parse(as_text(body), nullptr, false);
  const auto text = [&](const char* name) {
    const auto found = document.is_object() ? document.find(name) : document.end();
    return document.is_object() && found != document.end() && found->is_string()
               ? found->get<std::string>()
               : std::string();
  };
  AwsCredentials credentials = {.keys = {.access_key_id = text("AccessKeyId"),
                                         .secret_access_key = text("SecretAccessKey"),
                                         .session_token = text("Token")},
                                .expires = parse_timestamp(text("Expiration"))};
  if (credentials.keys.access_key_id.empty() || credentials.keys.secret_access_key.empty()) {
    throw Error(sqlstate::kInvalidAuthorization,
                fmt::format("the {} gave no usable credentials", service));
  }
  return credentials;
}

std::string first_line(ByteView body) {
  const std::string_view text = as_text(body);
  return std::string(text.substr(0, text.find_first_of("\r\n")));
}

/// Plain HTTP only to the machine itself and to the addresses that AWS has set aside.
bool may_be_plain(std::string_view url) {
  constexpr std::array<std::string_view, 6> kHosts = {
      "http://127.",          "http://localhost",      "http://[::1]",
      "http://169.254.170.2", "http://169.254.170.23", "http://[fd00:ec2::23]"};
  const std::string origin = net::origin_of(url);
  return std::any_of(kHosts.begin(), kHosts.end(), [&](std::string_view host) {
    if (!origin.starts_with(host)) return false;
    return host.ends_with('.') || origin.size() == host.size() || origin[host.size()] == ':';
  });
}

}  // namespace

std::optional<AwsCredentials> aws_container_credentials(const CloudEnvironment& environment,
                                                        const Stop& stop) {
  constexpr std::string_view kService = "container's credentials service";
  std::string url = environment.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  if (!url.empty()) {
    url = "http://169.254.170.2" + url;
  } else {
    url = environment.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    if (url.empty()) return std::nullopt;
    if (!url.starts_with("https://") && !may_be_plain(url)) {
      throw Error(sqlstate::kConfigFileError,
                  "AWS_CONTAINER_CREDENTIALS_FULL_URI names a host that must be asked over HTTPS");
    }
  }
  std::string token = environment.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
  const std::string token_file = environment.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  if (!token_file.empty()) {
    const auto content = environment.file(token_file);
    if (!content) {
      throw Error(
          sqlstate::kConfigFileError,
          fmt::format("file \"{}\" of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE does not exist",
                      token_file));
    }
    token = first_line(as_bytes(*content));
  }
  net::HttpRequest request = {.url = url,
                              .body_limit = 1U << 16,
                              .without_proxy = true,
                              .connect_timeout = kMetadataConnectTimeout};
  if (!token.empty()) request.headers.emplace_back("Authorization", token);
  const net::HttpResponse response = environment.http->send(request, stop);
  if (!response.success()) {
    throw http_error(fmt::format("could not get credentials from the {}", kService), response, {});
  }
  return parse_credentials(response.body, kService);
}

std::optional<AwsCredentials> aws_instance_credentials(const CloudEnvironment& environment,
                                                       const Stop& stop) {
  constexpr std::string_view kService = "instance's metadata service";
  if (environment.variable("AWS_EC2_METADATA_DISABLED") == "true") return std::nullopt;
  std::string endpoint = environment.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
  if (endpoint.empty()) endpoint = "http://169.254.169.254";
  while (endpoint.ends_with('/')) endpoint.pop_back();
  const auto ask = [&](net::HttpMethod method, const std::string& path, net::HttpHeaders headers) {
    return environment.http->send({.method = method,
                                   .url = endpoint + path,
                                   .headers = std::move(headers),
                                   .body_limit = 1U << 16,
                                   .without_proxy = true,
                                   .connect_timeout = kMetadataConnectTimeout},
                                  stop);
  };
  net::HttpResponse token;
  try {
    token = ask(net::HttpMethod::Put, "/latest/api/token",
                {{"X-aws-ec2-metadata-token-ttl-seconds", "21600"}});
  } catch (const Error& error) {
    if (error.state() != sqlstate::kConnectionFailure) throw;
    // Perhaps not a machine of Amazon's; perhaps one whose service is being restarted.
    throw Error(error.state(), fmt::format("the {} does not answer: {}", kService, error.message()))
        .retry(Retry::Briefly);
  }
  const std::string action = fmt::format("could not get credentials from the {}", kService);
  if (!token.success()) throw http_error(action, token, {});
  const net::HttpHeaders with_token = {{"X-aws-ec2-metadata-token", first_line(token.body)}};
  const std::string path = "/latest/meta-data/iam/security-credentials/";
  const net::HttpResponse role = ask(net::HttpMethod::Get, path, with_token);
  if (role.status == 404 || (role.success() && first_line(role.body).empty())) return std::nullopt;
  if (!role.success()) throw http_error(action, role, {});
  const net::HttpResponse answer =
      ask(net::HttpMethod::Get, path + first_line(role.body), with_token);
  if (!answer.success()) throw http_error(action, answer, {});
  return parse_credentials(answer.body, kService);
}

}  // namespace holdfast::storage
