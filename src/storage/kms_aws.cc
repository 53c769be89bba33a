// Source: AWS Key Management Service API reference (2014-11-01), Encrypt and Decrypt.
#include <fmt/format.h>

#include "base/error.h"
#include "crypto/base64.h"
#include "storage/aws_auth.h"
#include "storage/kms.h"
#include "storage/kms_internal.h"
#include "storage/uri_names.h"
#include "storage/uri_parameters.h"

namespace holdfast::storage {

namespace {

struct AwsKmsOptions {
  std::string key;  ///< an id, an ARN, or "alias/…"
  std::string region;
  std::string endpoint;  ///< "https://host:port"
};

class AwsKms final : public KmsKey {
 public:
  AwsKms(AwsKmsOptions options, std::unique_ptr<AwsCredentialSource> source, KmsParts parts)
      : options_(std::move(options)),
        parts_(std::move(parts)),
        credentials_(std::move(source), *parts_.environment.clock) {}

  std::string id() const override {
    return fmt::format("aws:///{}?REGION={}", options_.key, options_.region);
  }
  std::string_view scheme() const override { return "aws"; }

  Bytes encrypt(ByteView secret, const Stop& stop) override {
    const std::string action =
        fmt::format("could not encrypt with AWS KMS key \"{}\"", options_.key);
    return kms_bytes(
        ask("Encrypt", {{"KeyId", options_.key}, {"Plaintext", crypto::to_base64(secret)}}, action,
            stop),
        "CiphertextBlob", action);
  }

  Bytes decrypt(ByteView encrypted, const Stop& stop) override {
    const std::string action =
        fmt::format("could not decrypt with AWS KMS key \"{}\"", options_.key);
    return kms_bytes(
        ask("Decrypt", {{"KeyId", options_.key}, {"CiphertextBlob", crypto::to_base64(encrypted)}},
            action, stop),
        "Plaintext", action);
  }

 private:
  nlohmann::json ask(std::string_view operation, const nlohmann::json& question,
                     std::string_view action, const Stop& stop) {
    const std::string host = options_.endpoint.substr(options_.endpoint.find("://") + 3);
    return ask_kms(
        *parts_.http,
        [&](const std::string& body) {
          return net::HttpRequest{
              .method = net::HttpMethod::Post,
              .url = options_.endpoint + "/",
              .headers = sign_aws_request(
                  {.method = net::HttpMethod::Post,
                   .host = host,
                   .path = "/",
                   .headers = {{"Content-Type", "application/x-amz-json-1.1"},
                               {"X-Amz-Target", fmt::format("TrentService.{}", operation)}},
                   .body_sha256 = sha256_hex(as_bytes(body))},
                  credentials_.get(stop), {.region = options_.region, .service = "kms"},
                  parts_.environment.clock->now())};
        },
        question, action, stop);
  }

  const AwsKmsOptions options_;
  KmsParts parts_;
  AwsCredentialCache credentials_;
};

std::string default_endpoint(const std::string& region) {
  return fmt::format("https://kms.{}.amazonaws.com{}", region,
                     region.starts_with("cn-") ? ".cn" : "");
}

}  // namespace

std::unique_ptr<KmsKey> open_aws_kms(const StorageUri& uri, const StorageConfig& config,
                                     KmsParts parts) {
  UriParameters parameters(uri, "KMS");
  AwsKmsOptions options = {.key = kms_path(uri),
                           .region = parameters.take("REGION"),
                           .endpoint = normalize_aws_endpoint(parameters.take("AWS_ENDPOINT"))};
  const AwsAuthOptions auth = parse_aws_auth(parameters);
  parameters.finish();
  if (options.region.empty()) {
    // The wording of CockroachDB (reference, section 4.3).
    throw Error(sqlstate::kInvalidParameterValue, "could not find the aws kms region")
        .hint("Give the parameter REGION.");
  }
  // Part of the host's name.
  check_name(options.region, {.what = "REGION", .extra = "-"});
  refuse_endpoint(config, options.endpoint, "aws kms");
  if (auth.implicit) {
    require_implicit_credentials(!config.disable_implicit_credentials, "aws kms");
  }
  auto source = make_aws_credentials(auth, options.region, options.endpoint, parts.environment);
  if (options.endpoint.empty()) options.endpoint = default_endpoint(options.region);
  return std::make_unique<AwsKms>(std::move(options), std::move(source), std::move(parts));
}

}  // namespace holdfast::storage
