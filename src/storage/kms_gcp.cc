// Source: Google Cloud KMS API (v1), projects.locations.keyRings.cryptoKeys.encrypt and decrypt.
#include <fmt/format.h>

#include "base/error.h"
#include "crypto/base64.h"
#include "storage/gcs_auth.h"
#include "storage/kms.h"
#include "storage/kms_internal.h"
#include "storage/percent.h"
#include "storage/uri_parameters.h"

namespace holdfast::storage {

namespace {

constexpr std::string_view kScope = "https://www.googleapis.com/auth/cloud-platform";
constexpr std::string_view kService = "https://cloudkms.googleapis.com";

class GcpKms final : public KmsKey {
 public:
  GcpKms(std::string key, std::unique_ptr<AccessTokenCache> token, KmsParts parts)
      : key_(std::move(key)), parts_(std::move(parts)), token_(std::move(token)) {}

  std::string id() const override { return "gs:///" + key_; }
  std::string_view scheme() const override { return "gs"; }

  Bytes encrypt(ByteView secret, const Stop& stop) override {
    const std::string action = fmt::format("could not encrypt with Google KMS key \"{}\"", key_);
    return kms_bytes(ask("encrypt", {{"plaintext", crypto::to_base64(secret)}}, action, stop),
                     "ciphertext", action);
  }

  Bytes decrypt(ByteView encrypted, const Stop& stop) override {
    const std::string action = fmt::format("could not decrypt with Google KMS key \"{}\"", key_);
    return kms_bytes(ask("decrypt", {{"ciphertext", crypto::to_base64(encrypted)}}, action, stop),
                     "plaintext", action);
  }

 private:
  nlohmann::json ask(std::string_view operation, const nlohmann::json& question,
                     std::string_view action, const Stop& stop) {
    return ask_kms(
        *parts_.http,
        [&](const std::string& /*body*/) {
          return net::HttpRequest{
              .method = net::HttpMethod::Post,
              .url = fmt::format("{}/v1/{}:{}", kService, percent_encode_path(key_), operation),
              .headers = {{"Content-Type", "application/json"},
                          {"Authorization", "Bearer " + token_->get(stop)}}};
        },
        question, action, stop);
  }

  const std::string key_;
  KmsParts parts_;
  const std::unique_ptr<AccessTokenCache> token_;
};

}  // namespace

std::unique_ptr<KmsKey> open_gcp_kms(const StorageUri& uri, const StorageConfig& config,
                                     KmsParts parts) {
  std::string key = kms_path(uri);
  // Decrypting takes the key, whichever of its versions encrypted.
  if (const auto version = key.find("/cryptoKeyVersions/"); version != key.npos) {
    key.resize(version);
  }
  UriParameters parameters(uri, "KMS");
  GcsAuthOptions auth = parse_gcs_auth(
      parameters, "CREDENTIALS or BEARER_TOKEN must be set if \"AUTH\" is \"specified\"");
  auth.scope = kScope;
  parameters.finish();
  if (auth.implicit) {
    require_implicit_credentials(!config.disable_implicit_credentials, "gcp kms");
  }
  auto token = make_gcs_token(auth, parts.environment);
  return std::make_unique<GcpKms>(std::move(key), std::move(token), std::move(parts));
}

}  // namespace holdfast::storage
