#include "storage/gcs_auth.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "crypto/base64.h"
#include "crypto/rsa.h"
#include "storage/aws_signer.h"
#include "storage/http_errors.h"
#include "storage/json_text.h"
#include "storage/percent.h"

namespace holdfast::storage {

namespace {

constexpr std::string_view kStorageScope = "https://www.googleapis.com/auth/devstorage.read_write";
constexpr std::string_view kCloudScope = "https://www.googleapis.com/auth/cloud-platform";
constexpr std::string_view kTokenUri = "https://oauth2.googleapis.com/token";
/// Where the keys that Google hands out, of today and of earlier years, have their tokens from.
constexpr std::array<std::string_view, 3> kTokenOrigins = {
    "https://oauth2.googleapis.com", "https://accounts.google.com", "https://www.googleapis.com"};
constexpr std::string_view kAction = "could not get a Google access token";

AccessToken ask_token(const CloudEnvironment& environment, const std::string& url,
                      QueryParameters form, const Stop& stop) {
  const std::string body = canonical_query(std::move(form));
  const net::HttpResponse response =
      environment.http->send({.method = net::HttpMethod::Post,
                              .url = url,
                              .headers = {{"Content-Type", "application/x-www-form-urlencoded"}},
                              .body = {as_bytes(body)},
                              .body_limit = 1U << 20},
                             stop);
  return parse_token_answer(response, kAction, environment.clock->now());
}

std::string token_uri_of(const nlohmann::json& key, GcsTokenServer server) {
  std::string uri = json_text(key, "token_uri");
  if (uri.empty()) return std::string(kTokenUri);
  // A URL with anything before its host is none of Google's, whatever its origin looks like.
  const bool is_google = std::any_of(
      kTokenOrigins.begin(), kTokenOrigins.end(),
      [&](std::string_view origin) { return uri.starts_with(fmt::format("{}/", origin)); });
  if (server == GcsTokenServer::Google && !is_google) {
    throw Error(sqlstate::kInvalidParameterValue,
                "the token_uri of CREDENTIALS does not name a server of Google's")
        .detail("Tokens come from https://oauth2.googleapis.com.")
        .hint("A token server of one's own needs GOOGLE_ENDPOINT beside it.");
  }
  return uri;
}

/// Source: Google, "Using OAuth 2.0 for Server to Server Applications"; RFC 7523.
AccessToken token_of_service_account(const nlohmann::json& key, const std::string& uri,
                                     const CloudEnvironment& environment, const Stop& stop) {
  const auto seconds =
      std::chrono::floor<std::chrono::seconds>(environment.clock->now()).time_since_epoch().count();
  const nlohmann::json header = {
      {"alg", "RS256"}, {"typ", "JWT"}, {"kid", json_text(key, "private_key_id")}};
  // Impersonation asks another service than storage, hence the wide scope beside the narrow one.
  const nlohmann::json claims = {{"iss", json_text(key, "client_email")},
                                 {"scope", fmt::format("{} {}", kStorageScope, kCloudScope)},
                                 {"aud", uri},
                                 {"iat", seconds},
                                 {"exp", seconds + 3600}};
  const std::string text = crypto::to_base64_url(as_bytes(header.dump())) + "." +
                           crypto::to_base64_url(as_bytes(claims.dump()));
  const Bytes signature = crypto::sign_rs256(json_text(key, "private_key"), as_bytes(text));
  return ask_token(environment, uri,
                   {{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
                    {"assertion", text + "." + crypto::to_base64_url(signature)}},
                   stop);
}

/// Source: Google Cloud, "About VM metadata" and "Authenticate workloads using service accounts".
AccessToken token_of_metadata(const CloudEnvironment& environment, const Stop& stop) {
  std::string host = environment.variable("GCE_METADATA_HOST");
  if (host.empty()) host = "169.254.169.254";
  net::HttpResponse response;
  try {
    response = environment.http->send(
        {.url = fmt::format(
             "http://{}/computeMetadata/v1/instance/service-accounts/default/token?scopes={}", host,
             percent_encode(fmt::format("{},{}", kStorageScope, kCloudScope))),
         .headers = {{"Metadata-Flavor", "Google"}},
         .body_limit = 1U << 20,
         .without_proxy = true,
         .connect_timeout = kMetadataConnectTimeout},
        stop);
  } catch (const Error& error) {
    if (error.state() != sqlstate::kConnectionFailure) throw;
    throw Error(sqlstate::kInvalidAuthorization, "no Google credentials found")
        .detail(
            fmt::format("Looked at GOOGLE_APPLICATION_CREDENTIALS, gcloud's application default "
                        "credentials and the machine's metadata service. As to the last, {}.",
                        error.message()))
        .hint("Set up one of these for the daemon, or use AUTH=specified with CREDENTIALS.")
        // Perhaps a machine without such a service; perhaps one whose service is being restarted.
        .retry(Retry::Briefly);
  }
  return parse_token_answer(response, kAction, environment.clock->now());
}

/// Application default credentials. Source: Google Cloud, "How Application Default Credentials
/// works".
AccessToken implicit_token(const CloudEnvironment& environment, const Stop& stop) {
  const std::string named = environment.variable("GOOGLE_APPLICATION_CREDENTIALS");
  std::string path = named;
  if (path.empty()) {
    const std::string directory = environment.variable("CLOUDSDK_CONFIG");
    const std::string home = environment.variable("HOME");
    if (!directory.empty()) {
      path = directory + "/application_default_credentials.json";
    } else if (!home.empty()) {
      path = home + "/.config/gcloud/application_default_credentials.json";
    }
  }
  if (!path.empty()) {
    const auto content = environment.file(path);
    if (content) return gcs_token_of_file(*content, GcsTokenServer::Any, environment, stop);
    if (!named.empty()) {
      throw Error(
          sqlstate::kConfigFileError,
          fmt::format("file \"{}\" of GOOGLE_APPLICATION_CREDENTIALS does not exist", path));
    }
  }
  return token_of_metadata(environment, stop);
}

/// Source: IAM Service Account Credentials API, projects.serviceAccounts.generateAccessToken.
AccessToken impersonate(const AccessToken& own, const GcsAuthOptions& options,
                        const CloudEnvironment& environment, const Stop& stop) {
  const std::vector<std::string>& roles = options.roles;
  const auto resource = [](const std::string& account) {
    return "projects/-/serviceAccounts/" + account;
  };
  nlohmann::json ask = {{"scope", {options.scope}}, {"lifetime", "3600s"}};
  for (std::size_t i = 0; i + 1 < roles.size(); ++i) ask["delegates"].push_back(resource(roles[i]));
  const std::string body = ask.dump();
  const net::HttpResponse response = environment.http->send(
      {.method = net::HttpMethod::Post,
       .url = fmt::format("https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
                          "{}:generateAccessToken",
                          percent_encode(roles.back())),
       .headers = {{"Content-Type", "application/json"}, {"Authorization", "Bearer " + own.text}},
       .body = {as_bytes(body)},
       .body_limit = 1U << 20},
      stop);
  const std::string action = fmt::format("could not act as \"{}\"", roles.back());
  if (!response.success()) throw http_error(action, response, parse_json_error(response.body));
  const auto document = nlohmann::json::parse(as_text(response.body), nullptr, false);
  AccessToken token;
  if (document.is_object()) {
    token = {.text = json_text(document, "accessToken"),
             .expires = parse_timestamp(json_text(document, "expireTime"))};
  }
  if (token.text.empty()) {
    throw Error(sqlstate::kInvalidAuthorization,
                fmt::format("{}: the answer holds no access token", action));
  }
  return token;
}

}  // namespace

AccessToken gcs_token_of_file(const std::string& credentials_json, GcsTokenServer server,
                              const CloudEnvironment& environment, const Stop& stop) {
  const auto key = nlohmann::json::parse(credentials_json, nullptr, false);
  const std::string type = key.is_object() ? json_text(key, "type") : "";
  if (type == "service_account")
    return token_of_service_account(key, token_uri_of(key, server), environment, stop);
  if (type == "authorized_user") {
    return ask_token(environment, std::string(kTokenUri),
                     {{"grant_type", "refresh_token"},
                      {"client_id", json_text(key, "client_id")},
                      {"client_secret", json_text(key, "client_secret")},
                      {"refresh_token", json_text(key, "refresh_token")}},
                     stop);
  }
  if (type.empty()) {
    throw Error(sqlstate::kInvalidParameterValue,
                "the Google credentials are not a JSON key with a type");
  }
  throw Error(sqlstate::kFeatureNotSupported,
              fmt::format("Google credentials of type \"{}\" are not supported", type));
}

std::unique_ptr<AccessTokenCache> make_gcs_token(const GcsAuthOptions& options,
                                                 const CloudEnvironment& environment) {
  return std::make_unique<AccessTokenCache>(
      [options, environment](const Stop& stop) {
        AccessToken token;
        if (!options.bearer_token.empty()) {
          token.text = options.bearer_token;
        } else if (options.implicit) {
          token = implicit_token(environment, stop);
        } else {
          token =
              gcs_token_of_file(options.credentials_json, options.token_server, environment, stop);
        }
        return options.roles.empty() ? token : impersonate(token, options, environment, stop);
      },
      *environment.clock);
}

}  // namespace holdfast::storage
