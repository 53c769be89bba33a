#include "storage/azure_auth.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "crypto/base64.h"
#include "crypto/digest.h"
#include "storage/access_token.h"
#include "storage/http_errors.h"
#include "storage/percent.h"
#include "storage/uri_names.h"

namespace holdfast::storage {

namespace {

/// With as many tries as a store is given: longer than an update of the metadata service.
constexpr std::chrono::milliseconds kUpdateWait{10'000};

class SharedKeyAuth : public AzureAuth {
 public:
  SharedKeyAuth(std::string account, Bytes key)
      : account_(std::move(account)), key_(std::move(key)) {}
  void authorize(AzureRequest& request, const Stop& /*stop*/) override {
    request.headers.emplace_back("Authorization", azure_shared_key(request, account_, key_));
  }
  bool reject() override { return false; }

 private:
  const std::string account_;
  const Bytes key_;
};

class SasAuth : public AzureAuth {
 public:
  explicit SasAuth(std::string token) : token_(std::move(token)) {}
  void authorize(AzureRequest& request, const Stop& /*stop*/) override {
    std::string_view rest = token_;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('&'), rest.size());
      const std::string_view one = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      const std::size_t equals = one.find('=');
      if (equals == one.npos) continue;
      request.query.emplace_back(one.substr(0, equals), decode(one.substr(equals + 1)));
    }
  }
  bool reject() override { return false; }

 private:
  /// The token is encoded as a query; what sends the request encodes once more.
  static std::string decode(std::string_view text) {
    std::string decoded;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto byte = text[i] == '%' ? from_hex(text.substr(i + 1, 2)) : std::nullopt;
      decoded.push_back(byte && byte->size() == 1 ? static_cast<char>(byte->front()) : text[i]);
      if (byte && byte->size() == 1) i += 2;
    }
    return decoded;
  }

  const std::string token_;
};

class TokenAuth : public AzureAuth {
 public:
  TokenAuth(AccessTokenCache::Fetch fetch, const Clock& clock) : token_(std::move(fetch), clock) {}
  void authorize(AzureRequest& request, const Stop& stop) override {
    request.headers.emplace_back("Authorization", "Bearer " + token_.get(stop));
  }
  bool reject() override {
    token_.reject();
    return true;
  }

 private:
  AccessTokenCache token_;
};

/// Source: Microsoft identity platform, "OAuth 2.0 client credentials flow".
AccessToken token_of_client(const CloudEnvironment& environment, const AzureAuthOptions& options,
                            std::string authority, const std::string& tenant, QueryParameters form,
                            const Stop& stop) {
  while (authority.ends_with('/')) authority.pop_back();
  form.emplace_back("grant_type", "client_credentials");
  form.emplace_back("scope", options.resource + "/.default");
  const std::string body = canonical_query(std::move(form));
  const net::HttpResponse response = environment.http->send(
      {.method = net::HttpMethod::Post,
       .url = fmt::format("{}/{}/oauth2/v2.0/token", authority, percent_encode(tenant)),
       .headers = {{"Content-Type", "application/x-www-form-urlencoded"}},
       .body = {as_bytes(body)},
       .body_limit = 1U << 20},
      stop);
  return parse_token_answer(response, "could not get an Azure access token",
                            environment.clock->now());
}

/// Source: Azure, "How to use managed identities for Azure resources on an Azure VM" and, with
/// IDENTITY_ENDPOINT, "… for App Service".
AccessToken token_of_managed_identity(const CloudEnvironment& environment,
                                      const AzureAuthOptions& options, const std::string& client_id,
                                      const Stop& stop) {
  std::string endpoint = environment.variable("IDENTITY_ENDPOINT");
  const std::string header = environment.variable("IDENTITY_HEADER");
  QueryParameters query = {{"resource", options.resource + "/"}};
  net::HttpHeaders headers;
  if (!endpoint.empty() && !header.empty()) {
    query.emplace_back("api-version", "2019-08-01");
    headers.emplace_back("X-IDENTITY-HEADER", header);
  } else {
    endpoint = environment.variable("AZURE_POD_IDENTITY_AUTHORITY_HOST");
    if (endpoint.empty()) endpoint = "http://169.254.169.254";
    endpoint += "/metadata/identity/oauth2/token";
    query.emplace_back("api-version", "2018-02-01");
    headers.emplace_back("Metadata", "true");
  }
  if (!client_id.empty()) query.emplace_back("client_id", client_id);
  const net::HttpResponse response =
      environment.http->send({.method = net::HttpMethod::Get,
                              .url = endpoint + "?" + canonical_query(std::move(query)),
                              .headers = std::move(headers),
                              .body_limit = 1U << 20,
                              .without_proxy = true,
                              .connect_timeout = kMetadataConnectTimeout},
                             stop);
  try {
    return parse_token_answer(response, "could not get a token from Azure's metadata service",
                              environment.clock->now());
  } catch (Error& error) {
    // Source: the same, "Retry guidance": so it answers while it is updated, for up to 70 seconds.
    if (response.status == 404 || response.status == 410) {
      error.retry(Retry::Safe).retry_after(std::max(error.retry_after(), kUpdateWait));
    }
    throw;
  }
}

/// In the order of Azure's DefaultAzureCredential: environment, workload identity, managed
/// identity.
AccessToken implicit_token(const CloudEnvironment& environment, const AzureAuthOptions& options,
                           const Stop& stop) {
  const auto variable = [&](const char* name) { return environment.variable(name); };
  const std::string tenant = variable("AZURE_TENANT_ID");
  const std::string client =
      options.client_id.empty() ? variable("AZURE_CLIENT_ID") : options.client_id;
  const std::string secret = variable("AZURE_CLIENT_SECRET");
  std::string authority = variable("AZURE_AUTHORITY_HOST");
  if (authority.empty()) authority = options.authority;
  if (!tenant.empty() && !client.empty() && !secret.empty()) {
    return token_of_client(environment, options, authority, tenant,
                           {{"client_id", client}, {"client_secret", secret}}, stop);
  }
  const std::string token_file = variable("AZURE_FEDERATED_TOKEN_FILE");
  if (!tenant.empty() && !client.empty() && !token_file.empty()) {
    const auto assertion = environment.file(token_file);
    if (!assertion) {
      throw Error(
          sqlstate::kConfigFileError,
          fmt::format("file \"{}\" of AZURE_FEDERATED_TOKEN_FILE does not exist", token_file));
    }
    return token_of_client(
        environment, options, authority, tenant,
        {{"client_id", client},
         {"client_assertion", *assertion},
         {"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}},
        stop);
  }
  return token_of_managed_identity(environment, options, client, stop);
}

}  // namespace

std::string azure_shared_key(const AzureRequest& request, const std::string& account,
                             ByteView account_key) {
  const auto header = [&](std::string_view name) -> std::string {
    for (const auto& [sent, value] : request.headers) {
      if (lower_case(sent) == name) return value;
    }
    return "";
  };
  std::map<std::string, std::string> own_headers;
  for (const auto& [name, value] : request.headers) {
    if (lower_case(name).starts_with("x-ms-")) own_headers[lower_case(name)] = value;
  }
  std::string headers;
  for (const auto& [name, value] : own_headers) headers += fmt::format("{}:{}\n", name, value);

  std::string resource = "/" + account + request.path;
  std::map<std::string, std::string> parameters;
  for (const auto& [name, value] : request.query) {
    std::string& values = parameters[lower_case(name)];
    values += (values.empty() ? "" : ",") + value;
  }
  for (const auto& [name, value] : parameters) resource += fmt::format("\n{}:{}", name, value);

  const std::string to_sign = fmt::format(
      "{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}{}", net::to_string(request.method),
      header("content-encoding"), header("content-language"),
      request.body_bytes == 0 ? "" : std::to_string(request.body_bytes), header("content-md5"),
      header("content-type"), header("date"), header("if-modified-since"), header("if-match"),
      header("if-none-match"), header("if-unmodified-since"), header("range"), headers, resource);
  return fmt::format("SharedKey {}:{}", account,
                     crypto::to_base64(crypto::hmac_sha256(account_key, as_bytes(to_sign))));
}

std::unique_ptr<AzureAuth> make_azure_auth(const AzureAuthOptions& options,
                                           const std::string& account,
                                           const CloudEnvironment& environment) {
  switch (options.kind) {
    case AzureAuthKind::AccountKey:
      return std::make_unique<SharedKeyAuth>(account, options.account_key);
    case AzureAuthKind::SharedAccessSignature:
      return std::make_unique<SasAuth>(options.sas_token);
    case AzureAuthKind::ClientSecret:
      return std::make_unique<TokenAuth>(
          [options, environment](const Stop& stop) {
            return token_of_client(
                environment, options, options.authority, options.tenant_id,
                {{"client_id", options.client_id}, {"client_secret", options.client_secret}}, stop);
          },
          *environment.clock);
    case AzureAuthKind::Implicit:
      return std::make_unique<TokenAuth>(
          [options, environment](const Stop& stop) {
            return implicit_token(environment, options, stop);
          },
          *environment.clock);
  }
  throw Error(sqlstate::kInternalError, "unknown kind of Azure authorization");
}

}  // namespace holdfast::storage
