#include "storage/gcs_store.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "crypto/base64.h"
#include "crypto/testing/rsa_key.h"
#include "storage/testing/cloud_fixture.h"

namespace holdfast::storage {
namespace {

using testing::HasSubstr;

GcsOptions parse_gcs(const std::string& text) {
  return parse_gcs_uri(parse_uri(text), redact_uri(text));
}

std::string gcs_failure(const std::string& text) {
  try {
    parse_gcs(text);
  } catch (const Error& error) {
    return error.message();
  }
  return "accepted";
}

TEST(GcsUri, ReadsItsForms) {
  const GcsOptions options = parse_gcs(
      "gs://b/p?AUTH=specified&CREDENTIALS=e30%3D&ASSUME_ROLE=a@x,b@x&"
      "GOOGLE_BILLING_PROJECT=p");
  EXPECT_EQ(options.auth.credentials_json, "{}");
  EXPECT_THAT(options.auth.roles, testing::ElementsAre("a@x", "b@x"));
  EXPECT_EQ(options.billing_project, "p");
  EXPECT_EQ(options.endpoint, "https://storage.googleapis.com");
  EXPECT_TRUE(parse_gcs("gs://b?AUTH=implicit").auth.implicit);
  EXPECT_EQ(parse_gcs("gs://b?BEARER_TOKEN=t").auth.bearer_token, "t");
}

TEST(GcsUri, NamesCannotLeadElsewhere) {
  for (const char* bucket : {"..", "a%2Fb", "B", "b%3F"}) {
    EXPECT_EQ(gcs_failure(std::string("gs://") + bucket + "?BEARER_TOKEN=t"),
              "the bucket of the gs URI is not a valid name")
        << bucket;
  }
}

TEST(GcsUri, TellsWhatIsWrong) {
  EXPECT_EQ(gcs_failure("gs://b"), "CREDENTIALS must be set unless \"AUTH\" is \"implicit\"");
  for (const char* wrong : {"gs:///p?AUTH=implicit", "gs://b?AUTH=guess",
                            "gs://b?AUTH=implicit&CREDENTIALS=e30=", "gs://b?CREDENTIALS=*",
                            "gs://b?AUTH=implicit&X=1", "gs://b?AUTH=implicit&ASSUME_ROLE=a,,b",
                            "gs://b?AUTH=implicit&GOOGLE_ENDPOINT=https://h/path"}) {
    EXPECT_NE(gcs_failure(wrong), "accepted") << wrong;
  }
}

class GcsAuthTest : public CloudTest {
 protected:
  std::string token(const GcsAuthOptions& options) {
    return make_gcs_token(options, environment())->get(stop_);
  }
};

constexpr const char* kGcsAnswer =
    R"({"access_token":"the-token","expires_in":3599,"token_type":"Bearer"})";
constexpr const char* kGcsMetadata = "GET http://169.254.169.254/computeMetadata/v1/";

TEST_F(GcsAuthTest, UsesATokenUpToItsEndWhereNoOtherIsToBeHad) {
  const auto tokens = make_gcs_token({.implicit = true}, environment());
  http_.answer(kGcsMetadata, 200, kGcsAnswer);
  EXPECT_EQ(tokens->get(stop_), "the-token");
  clock_.time += std::chrono::minutes(56);
  http_.no_answer(kGcsMetadata);
  EXPECT_EQ(tokens->get(stop_), "the-token");
  clock_.time += std::chrono::minutes(4);
  http_.no_answer(kGcsMetadata);
  try {
    tokens->get(stop_);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "no Google credentials found");
    EXPECT_THAT(error.detail(), HasSubstr("nobody listens"));
    EXPECT_EQ(error.retry(), Retry::Briefly);
  }
}

// Source: Google, "Using OAuth 2.0 for Server to Server Applications".
TEST_F(GcsAuthTest, SignsTheAssertionOfAServiceAccount) {
  const nlohmann::json key = {{"type", "service_account"},
                              {"client_email", "backup@project.iam.gserviceaccount.com"},
                              {"private_key_id", "kid"},
                              {"private_key", crypto::RsaKey().pem},
                              {"token_uri", "https://www.googleapis.com/oauth2/v4/token"}};
  http_.answer("POST https://www.googleapis.com/oauth2/v4/token", 200, kGcsAnswer);
  EXPECT_EQ(token({.credentials_json = key.dump()}), "the-token");
  const std::string& body = http_.asked()[0].body;
  EXPECT_THAT(body, HasSubstr("&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"));
  const std::string assertion = body.substr(10, body.find('&') - 10);
  const std::size_t dot = assertion.find('.');
  const auto claims = nlohmann::json::parse(as_text(
      crypto::from_base64(assertion.substr(dot + 1, assertion.rfind('.') - dot - 1)).value()));
  EXPECT_EQ(claims["iss"], "backup@project.iam.gserviceaccount.com");
  EXPECT_EQ(claims["aud"], "https://www.googleapis.com/oauth2/v4/token");
  EXPECT_EQ(claims["exp"].get<long>() - claims["iat"].get<long>(), 3600);
}

nlohmann::json key_with(const std::string& token_uri) {
  return {
      {"type", "service_account"}, {"private_key", crypto::RsaKey().pem}, {"token_uri", token_uri}};
}

// Else anybody who may write a URI could have the daemon ask any host.
TEST_F(GcsAuthTest, AKeyOfTheUriCannotNameAnotherTokenServer) {
  for (const char* uri :
       {"http://169.254.169.254/latest", "https://inside.example.com/token",
        "https://oauth2.googleapis.com@inside.example.com/",
        "https://oauth2.googleapis.com:8443/token", "https://oauth2.googleapis.com.example.com/",
        "http://oauth2.googleapis.com/token", "https://oauth2.googleapis.com"}) {
    try {
      token({.credentials_json = key_with(uri).dump()});
      ADD_FAILURE() << uri;
    } catch (const Error& error) {
      EXPECT_EQ(error.message(), "the token_uri of CREDENTIALS does not name a server of Google's");
    }
  }
  EXPECT_TRUE(http_.asked().empty());
}

// Both are for administrators alone.
TEST_F(GcsAuthTest, AFileOfTheDaemonAndAnOwnEndpointMayNameAnotherTokenServer) {
  const std::string key = key_with("https://tokens.example.com/t").dump();
  http_.answer("POST https://tokens.example.com/t", 200, kGcsAnswer)
      .answer("POST https://tokens.example.com/t", 200, kGcsAnswer);
  variables_ = {{"GOOGLE_APPLICATION_CREDENTIALS", "/key"}};
  files_["/key"] = key;
  EXPECT_EQ(token({.implicit = true}), "the-token");
  GcsAuthOptions options = parse_gcs("gs://b?CREDENTIALS=" + crypto::to_base64_url(as_bytes(key)) +
                                     "&GOOGLE_ENDPOINT=https://gs.example.com")
                               .auth;
  options.credentials_json = key;
  EXPECT_EQ(token(options), "the-token");
}

TEST_F(GcsAuthTest, FindsApplicationDefaultCredentials) {
  variables_ = {{"HOME", "/home"}};
  files_["/home/.config/gcloud/application_default_credentials.json"] =
      R"({"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r"})";
  http_.answer("POST https://oauth2.googleapis.com/token", 200, kGcsAnswer);
  EXPECT_EQ(token({.implicit = true}), "the-token");
  EXPECT_EQ(http_.asked()[0].body,
            "client_id=c&client_secret=s&grant_type=refresh_token&refresh_token=r");
}

TEST_F(GcsAuthTest, AsksTheMachine) {
  http_.answer(
      "GET http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token", 200,
      kGcsAnswer);
  EXPECT_EQ(token({.implicit = true}), "the-token");
  EXPECT_EQ(http_.asked()[0].header("Metadata-Flavor"), "Google");
  EXPECT_TRUE(http_.asked()[0].without_proxy);
}

// Source: IAM Service Account Credentials API, generateAccessToken.
TEST_F(GcsAuthTest, ActsAsAnotherAccount) {
  http_.answer(
      "POST https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
      "target%40p.iam.gserviceaccount.com:generateAccessToken",
      200, R"({"accessToken":"target-token","expireTime":"2026-11-25T01:00:00Z"})");
  EXPECT_EQ(token({.bearer_token = "own",
                   .roles = {"via@p.iam.gserviceaccount.com", "target@p.iam.gserviceaccount.com"}}),
            "target-token");
  EXPECT_EQ(http_.asked()[0].header("Authorization"), "Bearer own");
  const auto asked = nlohmann::json::parse(http_.asked()[0].body);
  EXPECT_EQ(asked["delegates"][0], "projects/-/serviceAccounts/via@p.iam.gserviceaccount.com");
}

TEST_F(GcsAuthTest, ATokenThatIsRefusedIsFetchedAnew) {
  const auto store = open_gcs_store(parse_gcs("gs://b?AUTH=implicit"),
                                    {.http = std::make_unique<BorrowedHttp>(http_),
                                     .environment = environment(),
                                     .description = "gs://b"});
  const std::string metadata = "GET http://169.254.169.254/computeMetadata/";
  const std::string object = "GET https://storage.googleapis.com/storage/v1/b/b/o/a%2Fk?";
  http_.answer(metadata, 200, kGcsAnswer)
      .answer(object, 401, "")
      .answer(metadata, 200, R"({"access_token":"second"})")
      .answer(object, 200, R"({"size":"7"})");
  try {
    store->stat("a/k", stop_);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_TRUE(error.retry_is_safe());
  }
  EXPECT_EQ(store->stat("a/k", stop_)->size, 7U);
  EXPECT_EQ(http_.asked()[3].header("Authorization"), "Bearer second");
}

}  // namespace
}  // namespace holdfast::storage
