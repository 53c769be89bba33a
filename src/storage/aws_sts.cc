// Credentials of roles, from AWS's Security Token Service.
// Source: AWS STS API reference, AssumeRole and AssumeRoleWithWebIdentity (version 2011-06-15).
#include <fmt/format.h>

#include <pugixml.hpp>

#include "base/error.h"
#include "storage/aws_credentials.h"
#include "storage/http_errors.h"

namespace holdfast::storage {

namespace {

AwsCredentials parse_answer(const net::HttpResponse& response, const std::string& action,
                            const std::string& role) {
  if (!response.success()) {
    throw http_error(fmt::format("could not assume role \"{}\"", role), response,
                     parse_xml_error(response.body));
  }
  pugi::xml_document document;
  document.load_buffer(response.body.data(), response.body.size());
  const pugi::xml_node credentials = document.child((action + "Response").c_str())
                                         .child((action + "Result").c_str())
                                         .child("Credentials");
  AwsCredentials result = {.keys = {.access_key_id = credentials.child_value("AccessKeyId"),
                                    .secret_access_key = credentials.child_value("SecretAccessKey"),
                                    .session_token = credentials.child_value("SessionToken")},
                           .expires = parse_timestamp(credentials.child_value("Expiration"))};
  if (result.keys.access_key_id.empty() || result.keys.secret_access_key.empty()) {
    throw Error(sqlstate::kInvalidAuthorization,
                fmt::format("the token service gave no credentials for role \"{}\"", role));
  }
  return result;
}

struct Endpoint {
  std::string url;
  std::string host;
  std::string path;
};

Endpoint endpoint_of(const AwsTokenService& service) {
  const std::string origin = net::origin_of(service.endpoint);
  const std::size_t scheme = origin.find("://");
  return {.url = origin + "/",
          .host = origin.substr(scheme == origin.npos ? 0 : scheme + 3),
          .path = "/"};
}

class AssumeRoleSource : public AwsCredentialSource {
 public:
  AssumeRoleSource(std::unique_ptr<AwsCredentialSource> base, AwsRole role, AwsTokenService service,
                   CloudEnvironment environment)
      : environment_(std::move(environment)),
        base_(std::move(base), *environment_.clock),
        role_(std::move(role)),
        service_(std::move(service)) {}

  AwsCredentials fetch(const Stop& stop) override {
    QueryParameters form = {{"Action", "AssumeRole"},
                            {"Version", "2011-06-15"},
                            {"RoleArn", role_.arn},
                            {"RoleSessionName", "holdfast"},
                            {"DurationSeconds", "3600"}};
    if (!role_.external_id.empty()) form.emplace_back("ExternalId", role_.external_id);
    const std::string body = canonical_query(form);
    const Endpoint endpoint = endpoint_of(service_);
    const AwsKeys keys = base_.get(stop);
    const net::HttpHeaders headers = sign_aws_request(
        {.method = net::HttpMethod::Post,
         .host = endpoint.host,
         .path = endpoint.path,
         .headers = {{"Content-Type", "application/x-www-form-urlencoded"}},
         .body_sha256 = sha256_hex(as_bytes(body))},
        keys, {.region = service_.region, .service = "sts"}, environment_.clock->now());
    const net::HttpResponse response = environment_.http->send({.method = net::HttpMethod::Post,
                                                                .url = endpoint.url,
                                                                .headers = headers,
                                                                .body = {as_bytes(body)},
                                                                .body_limit = 1U << 16},
                                                               stop);
    if (parse_xml_error(response.body).code.starts_with("ExpiredToken")) base_.reject(keys);
    return parse_answer(response, "AssumeRole", role_.arn);
  }

 private:
  const CloudEnvironment environment_;
  AwsCredentialCache base_;
  const AwsRole role_;
  const AwsTokenService service_;
};

}  // namespace

AwsTokenService aws_token_service(const CloudEnvironment& environment, const std::string& region) {
  const std::string place = region.empty() ? "us-east-1" : region;
  std::string endpoint = environment.variable("AWS_ENDPOINT_URL_STS");
  if (endpoint.empty()) {
    endpoint =
        fmt::format("https://sts.{}.amazonaws.com{}", place, place.starts_with("cn-") ? ".cn" : "");
  }
  return {.endpoint = std::move(endpoint), .region = place};
}

std::unique_ptr<AwsCredentialSource> aws_assume_role(std::unique_ptr<AwsCredentialSource> base,
                                                     const AwsRole& role,
                                                     const AwsTokenService& service,
                                                     const CloudEnvironment& environment) {
  return std::make_unique<AssumeRoleSource>(std::move(base), role, service, environment);
}

AwsCredentials aws_web_identity_credentials(const std::string& role_arn,
                                            const std::string& token_file,
                                            const std::string& session_name,
                                            const AwsTokenService& service,
                                            const CloudEnvironment& environment, const Stop& stop) {
  std::optional<std::string> token = environment.file(token_file);
  if (!token) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("web identity token file \"{}\" does not exist", token_file));
  }
  while (!token->empty() && (token->back() == '\n' || token->back() == '\r')) token->pop_back();
  const std::string body =
      canonical_query({{"Action", "AssumeRoleWithWebIdentity"},
                       {"Version", "2011-06-15"},
                       {"RoleArn", role_arn},
                       {"RoleSessionName", session_name.empty() ? "holdfast" : session_name},
                       {"WebIdentityToken", *token}});
  // Not signed: the token is what proves who asks.
  const net::HttpResponse response =
      environment.http->send({.method = net::HttpMethod::Post,
                              .url = endpoint_of(service).url,
                              .headers = {{"Content-Type", "application/x-www-form-urlencoded"}},
                              .body = {as_bytes(body)},
                              .body_limit = 1U << 16},
                             stop);
  return parse_answer(response, "AssumeRoleWithWebIdentity", role_arn);
}

}  // namespace holdfast::storage
