// Source: Azure Key Vault REST API (7.4), encrypt and decrypt.
#include <fmt/format.h>

#include "base/error.h"
#include "crypto/base64.h"
#include "storage/azure_auth.h"
#include "storage/kms.h"
#include "storage/kms_internal.h"
#include "storage/percent.h"
#include "storage/uri_parameters.h"

namespace holdfast::storage {

namespace {

constexpr std::string_view kAlgorithm = "RSA-OAEP-256";

class AzureKms final : public KmsKey {
 public:
  AzureKms(std::string key, std::string vault, std::unique_ptr<AzureAuth> auth, KmsParts parts)
      : key_(std::move(key)),
        vault_(std::move(vault)),
        parts_(std::move(parts)),
        auth_(std::move(auth)) {}

  std::string id() const override { return fmt::format("azure-kms:///{} in {}", key_, vault_); }
  std::string_view scheme() const override { return "azure-kms"; }

  Bytes encrypt(ByteView secret, const Stop& stop) override { return ask("encrypt", secret, stop); }
  Bytes decrypt(ByteView encrypted, const Stop& stop) override {
    return ask("decrypt", encrypted, stop);
  }

 private:
  Bytes ask(std::string_view operation, ByteView value, const Stop& stop) {
    const std::string action =
        fmt::format("could not {} with key \"{}\" of Azure Key Vault", operation, key_);
    const auto answer = ask_kms(
        *parts_.http,
        [&](const std::string& body) {
          AzureRequest request = {.method = net::HttpMethod::Post,
                                  .path = {},
                                  .headers = {{"Content-Type", "application/json"}},
                                  .body_bytes = body.size()};
          auth_->authorize(request, stop);
          return net::HttpRequest{.method = net::HttpMethod::Post,
                                  .url = fmt::format("{}/keys/{}/{}?api-version=7.4", vault_,
                                                     percent_encode_path(key_), operation),
                                  .headers = std::move(request.headers)};
        },
        {{"alg", kAlgorithm}, {"value", crypto::to_base64_url(value)}}, action, stop);
    return kms_bytes(answer, "value", action);
  }

  const std::string key_;  ///< "name/version"
  const std::string vault_;
  KmsParts parts_;
  const std::unique_ptr<AzureAuth> auth_;
};

}  // namespace

std::unique_ptr<KmsKey> open_azure_kms(const StorageUri& uri, const StorageConfig& config,
                                       KmsParts parts) {
  const std::string key = kms_path(uri);
  const std::size_t slash = key.find('/');
  if (slash == key.npos || slash == 0 || slash + 1 == key.size() ||
      key.find('/', slash + 1) != key.npos) {
    // The wording of CockroachDB (reference, section 4.3).
    throw Error(sqlstate::kInvalidParameterValue, "azure kms key must be of form 'id/version'");
  }
  UriParameters parameters(uri, "KMS");
  const std::string name = parameters.take("AZURE_VAULT_NAME");
  if (name.empty()) {
    throw Error(sqlstate::kInvalidParameterValue,
                "azure kms uri missing \"AZURE_VAULT_NAME\" parameter");
  }
  // Part of the host's name.
  if (name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") !=
      name.npos) {
    throw Error(sqlstate::kInvalidParameterValue,
                "AZURE_VAULT_NAME has letters, digits and \"-\" only");
  }
  const AzureCloud cloud = find_azure_cloud(parameters.take("AZURE_ENVIRONMENT"));
  AzureAuthOptions auth = {.kind = AzureAuthKind::ClientSecret,
                           .tenant_id = parameters.take("AZURE_TENANT_ID"),
                           .client_id = parameters.take("AZURE_CLIENT_ID"),
                           .client_secret = parameters.take("AZURE_CLIENT_SECRET"),
                           .authority = std::string(cloud.authority),
                           .resource = fmt::format("https://{}", cloud.vault_suffix)};
  const std::string how = parameters.take("AUTH");
  parameters.finish();
  if (how == "implicit") {
    require_implicit_credentials(!config.disable_implicit_credentials, "azure kms");
    auth.kind = AzureAuthKind::Implicit;
  } else if ((!how.empty() && how != "specified") || auth.tenant_id.empty() ||
             auth.client_id.empty() || auth.client_secret.empty()) {
    throw Error(sqlstate::kInvalidParameterValue,
                "azure kms requires explicit auth (RBAC) or implicit auth")
        .hint("Give AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID, or AUTH=implicit.");
  }
  auto made = make_azure_auth(auth, "", parts.environment);
  return std::make_unique<AzureKms>(key, fmt::format("https://{}.{}", name, cloud.vault_suffix),
                                    std::move(made), std::move(parts));
}

}  // namespace holdfast::storage
