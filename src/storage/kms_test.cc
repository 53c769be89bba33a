#include "storage/kms.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "crypto/base64.h"
#include "storage/testing/cloud_fixture.h"

namespace holdfast::storage {
namespace {

using testing::HasSubstr;

std::string in_base64(std::string_view text) { return crypto::to_base64(as_bytes(text)); }

class KmsTest : public CloudTest {
 protected:
  std::unique_ptr<KmsKey> open(const std::string& text, const StorageConfig& config = {}) {
    const StorageUri uri = parse_uri(text);
    KmsParts parts = {.http = std::make_unique<BorrowedHttp>(http_), .environment = environment()};
    if (uri.scheme == "aws") return open_aws_kms(uri, config, std::move(parts));
    if (uri.scheme == "gs") return open_gcp_kms(uri, config, std::move(parts));
    return open_azure_kms(uri, config, std::move(parts));
  }
  std::string failure(const std::string& uri, const StorageConfig& config = {}) {
    try {
      open(uri, config);
    } catch (const Error& error) {
      return error.message();
    }
    return "accepted";
  }
  nlohmann::json asked(std::size_t number) {
    return nlohmann::json::parse(http_.asked().at(number).body);
  }
};

const std::string kAws =
    "aws:///alias/backups?REGION=eu-west-1&AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=hush";

// AWS KMS says so with a status that stands for wrong requests elsewhere.
TEST_F(KmsTest, AsksAwsAgainThatThrottles) {
  const auto kms = open(kAws);
  http_
      .answer("POST https://kms.", 400,
              R"({"__type":"ThrottlingException","message":"Rate exceeded"})")
      .answer("POST https://kms.", 200, R"({"Plaintext":")" + in_base64("secret") + R"("})");
  EXPECT_EQ(as_text(kms->decrypt(as_bytes("sealed"), stop_)), "secret");
}

// Source: AWS KMS API reference, Encrypt and Decrypt.
TEST_F(KmsTest, AsksAws) {
  const auto kms = open(kAws);
  EXPECT_EQ(kms->id(), "aws:///alias/backups?REGION=eu-west-1");
  http_.answer("POST https://kms.eu-west-1.amazonaws.com/", 200,
               R"({"CiphertextBlob":")" + in_base64("sealed") + R"(","KeyId":"arn:aws:kms:…"})");
  EXPECT_EQ(as_text(kms->encrypt(as_bytes("secret"), stop_)), "sealed");
  EXPECT_EQ(http_.asked()[0].header("X-Amz-Target"), "TrentService.Encrypt");
  EXPECT_EQ(http_.asked()[0].header("Content-Type"), "application/x-amz-json-1.1");
  EXPECT_THAT(http_.asked()[0].header("Authorization"),
              HasSubstr("Credential=id/20261125/eu-west-1/kms/aws4_request"));
  EXPECT_EQ(asked(0),
            (nlohmann::json{{"KeyId", "alias/backups"}, {"Plaintext", in_base64("secret")}}));

  http_.answer("POST https://kms.eu-west-1.amazonaws.com/", 200,
               R"({"Plaintext":")" + in_base64("secret") + R"("})");
  EXPECT_EQ(as_text(kms->decrypt(as_bytes("sealed"), stop_)), "secret");
  EXPECT_EQ(http_.asked()[1].header("X-Amz-Target"), "TrentService.Decrypt");
  EXPECT_EQ(asked(1)["CiphertextBlob"], in_base64("sealed"));
}

TEST_F(KmsTest, TellsWhatAwsSays) {
  const auto kms = open(kAws);
  http_.answer("POST https://kms.", 400,
               R"({"__type":"NotFoundException","message":"Alias is not found."})");
  try {
    kms->encrypt(as_bytes("secret"), stop_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("could not encrypt with AWS KMS key \"alias/backups\""));
    EXPECT_THAT(error.message(), HasSubstr("NotFoundException"));
    EXPECT_THAT(error.message(), testing::Not(HasSubstr("hush")));
  }
}

TEST_F(KmsTest, AsksAgainWhatFailedInPassing) {
  const auto kms = open(kAws);
  http_.answer("POST https://kms.", 503, "")
      .answer("POST https://kms.", 200, R"({"Plaintext":")" + in_base64("s") + R"("})");
  EXPECT_EQ(as_text(kms->decrypt(as_bytes("sealed"), stop_)), "s");
}

// Source: Google Cloud KMS API v1, cryptoKeys.encrypt and decrypt.
TEST_F(KmsTest, AsksGoogle) {
  const std::string name = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
  const auto kms = open("gs:///" + name + "/cryptoKeyVersions/3?BEARER_TOKEN=token");
  EXPECT_EQ(kms->id(), "gs:///" + name);
  http_.answer("POST https://cloudkms.googleapis.com/v1/" + name + ":encrypt", 200,
               R"({"name":"…","ciphertext":")" + in_base64("sealed") + R"("})");
  EXPECT_EQ(as_text(kms->encrypt(as_bytes("secret"), stop_)), "sealed");
  EXPECT_EQ(http_.asked()[0].header("Authorization"), "Bearer token");
  EXPECT_EQ(asked(0), (nlohmann::json{{"plaintext", in_base64("secret")}}));
  http_.answer("POST https://cloudkms.googleapis.com/v1/" + name + ":decrypt", 200,
               R"({"plaintext":")" + in_base64("secret") + R"("})");
  EXPECT_EQ(as_text(kms->decrypt(as_bytes("sealed"), stop_)), "secret");
  http_.answer("POST https://cloudkms.", 403,
               R"({"error":{"code":403,"status":"PERMISSION_DENIED","message":"no"}})");
  try {
    kms->decrypt(as_bytes("sealed"), stop_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kInsufficientPrivilege);
    EXPECT_THAT(error.message(), HasSubstr("PERMISSION_DENIED"));
  }
}

// Source: Azure Key Vault REST API 7.4, encrypt; OAuth 2.0 client credentials flow.
TEST_F(KmsTest, AsksAzure) {
  const auto kms = open(
      "azure-kms:///backups/1a2b?AZURE_VAULT_NAME=vault&AZURE_CLIENT_ID=c&AZURE_CLIENT_SECRET=hush"
      "&AZURE_TENANT_ID=t");
  http_
      .answer("POST https://login.microsoftonline.com/t/oauth2/v2.0/token", 200,
              R"({"access_token":"token","expires_in":3599})")
      .answer("POST https://vault.vault.azure.net/keys/backups/1a2b/encrypt?api-version=7.4", 200,
              R"({"kid":"…","value":")" + crypto::to_base64_url(as_bytes("sealed")) + R"("})")
      .answer("POST https://vault.vault.azure.net/keys/backups/1a2b/decrypt?api-version=7.4", 200,
              R"({"kid":"…","value":")" + crypto::to_base64_url(as_bytes("secret")) + R"("})");
  EXPECT_EQ(as_text(kms->encrypt(as_bytes("secret"), stop_)), "sealed");
  EXPECT_EQ(as_text(kms->decrypt(as_bytes("sealed"), stop_)), "secret");
  EXPECT_THAT(http_.asked()[0].body, HasSubstr("scope=https%3A%2F%2Fvault.azure.net%2F.default"));
  EXPECT_EQ(http_.asked()[1].header("Authorization"), "Bearer token");
  EXPECT_EQ(asked(1), (nlohmann::json{{"alg", "RSA-OAEP-256"},
                                      {"value", crypto::to_base64_url(as_bytes("secret"))}}));
}

TEST_F(KmsTest, TellsWhatIsWrongWithAUri) {
  EXPECT_EQ(failure("aws:///?REGION=r&AUTH=implicit"),
            "path component of the KMS cannot be empty; must contain the Customer Managed Key");
  EXPECT_EQ(failure("aws:///key?AUTH=implicit"), "could not find the aws kms region");
  EXPECT_EQ(failure("aws:///key?REGION=r"),
            "AUTH is set to 'specified', but AWS_ACCESS_KEY_ID is not set");
  EXPECT_EQ(failure("aws:///key?REGION=r&AUTH=implicit&X=1"), "unknown KMS query parameters: X");
  EXPECT_EQ(failure("gs:///projects/p/k"),
            "CREDENTIALS or BEARER_TOKEN must be set if \"AUTH\" is \"specified\"");
  EXPECT_EQ(failure("azure-kms:///key?AZURE_VAULT_NAME=v&AUTH=implicit"),
            "azure kms key must be of form 'id/version'");
  EXPECT_EQ(failure("azure-kms:///key/1?AZURE_VAULT_NAME=v"),
            "azure kms requires explicit auth (RBAC) or implicit auth");
  EXPECT_NE(failure("azure-kms:///key/1?AUTH=implicit"), "accepted");
  EXPECT_NE(failure("azure-kms:///key/1?AUTH=implicit&AZURE_VAULT_NAME=evil.example.com/"),
            "accepted");
}

TEST_F(KmsTest, KeepsToWhatTheDaemonAllows) {
  const StorageConfig config = {.disable_implicit_credentials = true, .disable_http = true};
  for (const char* uri :
       {"aws:///key?REGION=r&AUTH=implicit", "gs:///projects/p/k?AUTH=implicit",
        "azure-kms:///key/1?AZURE_VAULT_NAME=v&AUTH=implicit",
        "aws:///key?REGION=r&AWS_ACCESS_KEY_ID=i&AWS_SECRET_ACCESS_KEY=s&AWS_ENDPOINT=http://h"}) {
    EXPECT_NE(failure(uri, config), "accepted") << uri;
  }
}

}  // namespace
}  // namespace holdfast::storage
