#include "storage/azure_store.h"

#include "base/error.h"
#include "crypto/base64.h"
#include "crypto/digest.h"
#include "storage/testing/cloud_fixture.h"

namespace holdfast::storage {
namespace {

using testing::HasSubstr;

AzureOptions parse_azure(const std::string& text) {
  return parse_azure_uri(parse_uri(text), redact_uri(text));
}

std::string azure_failure(const std::string& text) {
  try {
    parse_azure(text);
  } catch (const Error& error) {
    return error.message();
  }
  return "accepted";
}

TEST(AzureUri, ReadsItsForms) {
  const AzureOptions key =
      parse_azure("azure://c/p?AZURE_ACCOUNT_NAME=acc&AZURE_ACCOUNT_KEY=aGVsbG8%3D");
  EXPECT_EQ(key.endpoint, "https://acc.blob.core.windows.net");
  EXPECT_EQ(as_text(key.auth.account_key), "hello");
  const AzureOptions client = parse_azure(
      "azure-blob://c?AZURE_ACCOUNT_NAME=acc&AUTH=specified&AZURE_CLIENT_ID=i&"
      "AZURE_CLIENT_SECRET=s&AZURE_TENANT_ID=t&AZURE_ENVIRONMENT=AzureUSGovernmentCloud");
  EXPECT_EQ(client.auth.kind, AzureAuthKind::ClientSecret);
  EXPECT_EQ(client.endpoint, "https://acc.blob.core.usgovcloudapi.net");
  EXPECT_EQ(client.auth.authority, "https://login.microsoftonline.us");
  EXPECT_EQ(parse_azure("azure-storage://c?AZURE_ACCOUNT_NAME=acc&AUTH=implicit").auth.kind,
            AzureAuthKind::Implicit);
  EXPECT_EQ(parse_azure("azure://c?AZURE_ACCOUNT_NAME=acc&AZURE_SAS_TOKEN=%3Fsv%3D1%26sig%3Dx")
                .auth.sas_token,
            "sv=1&sig=x");
}

TEST(AzureUri, TellsWhatIsWrong) {
  EXPECT_EQ(azure_failure("azure://c?AUTH=implicit"),
            "azure uri missing \"AZURE_ACCOUNT_NAME\" parameter");
  EXPECT_EQ(azure_failure("azure://c?AZURE_ACCOUNT_NAME=acc&AUTH=implicit&X=1"),
            "unknown azure query parameters: X");
  for (const char* wrong :
       {"", "&AUTH=guess", "&AZURE_ACCOUNT_KEY=*", "&AZURE_CLIENT_ID=i&AZURE_CLIENT_SECRET=s",
        "&AUTH=implicit&AZURE_ACCOUNT_KEY=aGVsbG8=", "&AUTH=implicit&AZURE_ENVIRONMENT=MOON",
        "&AZURE_SAS_TOKEN=x&AZURE_ACCOUNT_KEY=aGVsbG8=",
        "&AUTH=implicit&AZURE_ENDPOINT=https://u:p@h", "&AUTH=implicit&AZURE_ENDPOINT=h"}) {
    EXPECT_NE(azure_failure(std::string("azure://c?AZURE_ACCOUNT_NAME=acc") + wrong), "accepted")
        << wrong;
  }
}

// What these names are put into is a URL, and its host decides who is asked.
TEST(AzureUri, NamesCannotLeadToAnotherHost) {
  for (const char* account :
       {"127.0.0.1:6379%2F", "inside.example.com%2F%23", "u@inside", "ac", "Acc"}) {
    EXPECT_EQ(azure_failure(std::string("azure://c?AUTH=implicit&AZURE_ACCOUNT_NAME=") + account),
              "AZURE_ACCOUNT_NAME is not a valid name")
        << account;
  }
  for (const char* container : {"..", "a%2Fb", "A"}) {
    EXPECT_EQ(azure_failure(std::string("azure://") + container +
                            "?AUTH=implicit&AZURE_ACCOUNT_NAME=acc"),
              "the container of the azure URI is not a valid name")
        << container;
  }
  EXPECT_EQ(parse_azure("azure://$root?AUTH=implicit&AZURE_ACCOUNT_NAME=acc").container, "$root");
  EXPECT_EQ(
      azure_failure("azure://c?AZURE_ACCOUNT_NAME=acc&AZURE_CLIENT_ID=i&AZURE_CLIENT_SECRET=s&"
                    "AZURE_TENANT_ID=..%2Fx"),
      "AZURE_TENANT_ID is not a valid name");
}

// Source: Azure Storage REST documentation, "Authorize with Shared Key", whose example of a string
// to sign for Get Container Metadata this is; it shows no signature, so that is made here.
TEST(AzureSharedKey, SignsTheDocumentedString) {
  const AzureRequest request = {
      .path = "/mycontainer",
      .query = {{"restype", "container"}, {"comp", "metadata"}, {"timeout", "20"}},
      .headers = {{"x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"}, {"x-ms-version", "2015-02-21"}}};
  constexpr std::string_view kDocumented =
      "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\n"
      "x-ms-version:2015-02-21\n/myaccount/mycontainer\ncomp:metadata\nrestype:container\n"
      "timeout:20";
  const ByteView key = as_bytes("a key");
  EXPECT_EQ(
      azure_shared_key(request, "myaccount", key),
      "SharedKey myaccount:" + crypto::to_base64(crypto::hmac_sha256(key, as_bytes(kDocumented))));
}

class AzureAuthTest : public CloudTest {
 protected:
  std::string authorization(AzureAuthOptions options) {
    options.authority = "https://login.microsoftonline.com";
    AzureRequest request;
    make_azure_auth(options, "acc", environment())->authorize(request, stop_);
    return request.headers.empty() ? "" : request.headers.back().second;
  }
};

constexpr const char* kAnswer =
    R"({"token_type":"Bearer","expires_in":3599,"access_token":"the-token"})";

// Source: Microsoft identity platform, "OAuth 2.0 client credentials flow".
TEST_F(AzureAuthTest, AsksWithAClientSecret) {
  http_.answer("POST https://login.microsoftonline.com/tenant/oauth2/v2.0/token", 200, kAnswer);
  EXPECT_EQ(authorization({.kind = AzureAuthKind::ClientSecret,
                           .tenant_id = "tenant",
                           .client_id = "client",
                           .client_secret = "s&cret"}),
            "Bearer the-token");
  EXPECT_EQ(http_.asked()[0].body,
            "client_id=client&client_secret=s%26cret&grant_type=client_credentials&scope=https%3A"
            "%2F%2Fstorage.azure.com%2F.default");
}

TEST_F(AzureAuthTest, AsksTheMachineForItsManagedIdentity) {
  http_.answer(
      "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&client_id="
      "which&resource=https%3A%2F%2Fstorage.azure.com%2F",
      200, R"({"access_token":"the-token","expires_in":"86399","token_type":"Bearer"})");
  EXPECT_EQ(authorization({.kind = AzureAuthKind::Implicit, .client_id = "which"}),
            "Bearer the-token");
  EXPECT_EQ(http_.asked()[0].header("Metadata"), "true");
}

// Source: Azure, "How to use managed identities for Azure resources on an Azure VM", retry
// guidance.
TEST_F(AzureAuthTest, AsksAMetadataServiceAgainThatIsBeingUpdated) {
  for (const int status : {404, 410}) {
    http_.answer("GET http://169.254.169.254/metadata/identity/oauth2/token", status, "");
    try {
      authorization({.kind = AzureAuthKind::Implicit});
      ADD_FAILURE() << status;
    } catch (const Error& error) {
      EXPECT_EQ(error.retry(), Retry::Safe) << status;
      EXPECT_EQ(error.retry_after(), std::chrono::seconds(10)) << status;
    }
  }
  http_.answer("GET http://169.254.169.254/metadata/identity/oauth2/token", 400,
               R"({"error":"invalid_request","error_description":"Identity not found"})");
  try {
    authorization({.kind = AzureAuthKind::Implicit});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_FALSE(error.retry_is_safe());
  }
}

TEST_F(AzureAuthTest, AsksAsAWorkload) {
  variables_ = {{"AZURE_TENANT_ID", "t"},
                {"AZURE_CLIENT_ID", "c"},
                {"AZURE_FEDERATED_TOKEN_FILE", "/token"},
                {"AZURE_AUTHORITY_HOST", "https://login.example.com/"}};
  files_["/token"] = "jwt";
  http_.answer("POST https://login.example.com/t/oauth2/v2.0/token", 200, kAnswer);
  EXPECT_EQ(authorization({.kind = AzureAuthKind::Implicit}), "Bearer the-token");
  EXPECT_THAT(http_.asked()[0].body, HasSubstr("client_assertion=jwt&client_assertion_type=urn"));
}

TEST_F(AzureAuthTest, SaysWhyATokenIsRefused) {
  http_.answer("POST ", 401,
               R"({"error":"invalid_client","error_description":"AADSTS7000215: Invalid client )"
               R"(secret provided.\r\nTrace ID: 1"})");
  try {
    authorization({.kind = AzureAuthKind::ClientSecret,
                   .tenant_id = "t",
                   .client_id = "c",
                   .client_secret = "hush"});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.message(),
              "could not get an Azure access token: AADSTS7000215: Invalid client secret provided "
              "(HTTP status 401, invalid_client)");
  }
}

TEST_F(AzureAuthTest, AnObjectThatIsImmutableMayNotBeRemoved) {
  const auto store =
      open_azure_store(parse_azure("azure://c?AZURE_ACCOUNT_NAME=acc&AZURE_ACCOUNT_KEY=aGVsbG8="),
                       {.http = std::make_unique<BorrowedHttp>(http_),
                        .environment = environment(),
                        .description = "azure://c"});
  http_.answer("DELETE https://acc.blob.core.windows.net/c/k", 409, "",
               {{"x-ms-error-code", "BlobImmutableDueToPolicy"}});
  EXPECT_FALSE(remove_if_allowed(*store, "k", stop_));
}

}  // namespace
}  // namespace holdfast::storage
