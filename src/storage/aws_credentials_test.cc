#include "storage/aws_credentials.h"

#include "base/error.h"
#include "storage/aws_profile.h"
#include "storage/testing/cloud_fixture.h"

namespace holdfast::storage {
namespace {

using testing::HasSubstr;

constexpr const char* kMetadata = "http://169.254.169.254/latest";
constexpr const char* kRolePath = "/meta-data/iam/security-credentials/";

/// The answer of the services on a machine. Source: AWS, "Retrieve security credentials from
/// instance metadata".
std::string service_answer(const std::string& id) {
  return R"({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": ")" + id +
         R"(", "SecretAccessKey": "hush", "Token": "session", "Expiration": "2026-11-25T06:00:00Z"})";
}

/// Source: AWS STS API reference, the examples of AssumeRole and AssumeRoleWithWebIdentity.
std::string sts_answer(const std::string& action, const std::string& id) {
  return "<" + action + "Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><" + action +
         "Result><Credentials><AccessKeyId>" + id +
         "</AccessKeyId><SecretAccessKey>hush</SecretAccessKey><SessionToken>token</SessionToken>"
         "<Expiration>2026-11-25T01:00:00Z</Expiration></Credentials></" +
         action + "Result></" + action + "Response>";
}

class AwsCredentialsTest : public CloudTest {
 protected:
  std::string implicit_key() {
    return aws_implicit_credentials(environment(), "eu-west-1")->fetch(stop_).keys.access_key_id;
  }
  void instance_answers(const std::string& id) {
    http_.answer(std::string("PUT ") + kMetadata + "/api/token", 200, "metadata-token")
        .answer(std::string("GET ") + kMetadata + kRolePath, 200, "backup-role\n")
        .answer(std::string("GET ") + kMetadata + kRolePath + "backup-role", 200,
                service_answer(id));
  }
};

TEST_F(AwsCredentialsTest, TakesTheEnvironmentFirst) {
  variables_ = {{"AWS_ACCESS_KEY_ID", "env"}, {"AWS_SECRET_ACCESS_KEY", "x"}, {"HOME", "/home"}};
  files_["/home/.aws/credentials"] = "[default]\naws_access_key_id=file\naws_secret_access_key=x\n";
  EXPECT_EQ(implicit_key(), "env");
}

TEST_F(AwsCredentialsTest, ReadsTheProfileThatIsAskedFor) {
  variables_ = {{"HOME", "/home"}, {"AWS_PROFILE", "backup"}};
  files_["/home/.aws/config"] =
      "# comment\n[default]\nregion = us-west-2\n[profile backup]\nregion=eu-north-1\ns3 =\n  "
      "max_queue_size = 1\n";
  files_["/home/.aws/credentials"] =
      "[default]\naws_access_key_id=other\naws_secret_access_key=x\n[backup]\r\n"
      "aws_access_key_id = file\r\naws_secret_access_key = x\r\n";
  EXPECT_EQ(implicit_key(), "file");
  EXPECT_EQ(aws_configured_region(environment()), "eu-north-1");
}

TEST_F(AwsCredentialsTest, AssumesTheRoleOfAProfile) {
  variables_ = {{"AWS_CONFIG_FILE", "/config"}};
  files_["/config"] =
      "[default]\nrole_arn=arn:role\nsource_profile=base\nexternal_id=ext\n[profile base]\n"
      "aws_access_key_id=base-key\naws_secret_access_key=x\n";
  http_.answer("POST https://sts.eu-west-1.amazonaws.com/", 200, sts_answer("AssumeRole", "role"));
  EXPECT_EQ(implicit_key(), "role");
  EXPECT_THAT(http_.asked()[0].body, HasSubstr("ExternalId=ext"));
  EXPECT_THAT(http_.asked()[0].header("Authorization"),
              HasSubstr("Credential=base-key/20261125/eu-west-1/sts/aws4_request"));
}

TEST_F(AwsCredentialsTest, RefusesProfilesThatStartPrograms) {
  variables_ = {{"AWS_CONFIG_FILE", "/config"}};
  files_["/config"] = "[default]\ncredential_process = /bin/keys\n";
  EXPECT_THROW(implicit_key(), Error);
}

TEST_F(AwsCredentialsTest, ExchangesAWebIdentityToken) {
  variables_ = {{"AWS_WEB_IDENTITY_TOKEN_FILE", "/token"}, {"AWS_ROLE_ARN", "arn:role"}};
  files_["/token"] = "jwt.of.the.pod\n";
  http_.answer("POST https://sts.eu-west-1.amazonaws.com/", 200,
               sts_answer("AssumeRoleWithWebIdentity", "pod"));
  EXPECT_EQ(implicit_key(), "pod");
  EXPECT_THAT(http_.asked()[0].body, HasSubstr("&WebIdentityToken=jwt.of.the.pod"));
  EXPECT_EQ(http_.asked()[0].header("Authorization"), "");
}

TEST_F(AwsCredentialsTest, AsksTheContainersService) {
  variables_ = {{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x"}};
  http_.answer("GET http://169.254.170.2/v2/credentials/x", 200, service_answer("container"));
  EXPECT_EQ(implicit_key(), "container");
  EXPECT_TRUE(http_.asked()[0].without_proxy);
}

TEST_F(AwsCredentialsTest, SendsTheContainersTokenOnlyWhereItIsSafe) {
  variables_ = {{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"},
                {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/token"}};
  files_["/token"] = "authorization\n";
  http_.answer("GET http://169.254.170.23/v1/credentials", 200, service_answer("pod"));
  EXPECT_EQ(implicit_key(), "pod");
  EXPECT_EQ(http_.asked()[0].header("Authorization"), "authorization");
  for (const char* uri : {"http://example.com/x", "http://169.254.170.2.example.com/x",
                          "http://localhost.example.com/"}) {
    variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = uri;
    EXPECT_THROW(implicit_key(), Error) << uri;
  }
}

TEST_F(AwsCredentialsTest, AsksTheInstancesServiceWithASessionToken) {
  instance_answers("instance");
  EXPECT_EQ(implicit_key(), "instance");
  EXPECT_EQ(http_.asked()[0].header("X-aws-ec2-metadata-token-ttl-seconds"), "21600");
  EXPECT_EQ(http_.asked()[2].header("X-aws-ec2-metadata-token"), "metadata-token");
}

TEST_F(AwsCredentialsTest, SaysWhereItLooked) {
  http_.no_answer(std::string("PUT ") + kMetadata + "/api/token");
  try {
    implicit_key();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "no AWS credentials found");
    EXPECT_THAT(error.detail(), HasSubstr("metadata service does not answer: nobody listens"));
    EXPECT_EQ(error.retry(), Retry::Briefly);
  }
}

TEST_F(AwsCredentialsTest, AMachineWithoutARoleIsNotAskedAgain) {
  http_.answer(std::string("PUT ") + kMetadata + "/api/token", 200, "metadata-token")
      .answer(std::string("GET ") + kMetadata + kRolePath, 404, "");
  try {
    implicit_key();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "no AWS credentials found");
    EXPECT_FALSE(error.retry_is_safe());
  }
}

TEST_F(AwsCredentialsTest, KeepsKeysUntilShortlyBeforeTheyExpire) {
  AwsCredentialCache cache(aws_implicit_credentials(environment(), ""), clock_);
  instance_answers("first");
  EXPECT_EQ(cache.get(stop_).access_key_id, "first");
  clock_.time += std::chrono::hours(5);
  EXPECT_EQ(cache.get(stop_).access_key_id, "first");
  clock_.time += std::chrono::minutes(56);
  instance_answers("second");
  EXPECT_EQ(cache.get(stop_).access_key_id, "second");
  clock_.time -= std::chrono::hours(1);
  EXPECT_TRUE(cache.reject(cache.get(stop_)));
  instance_answers("third");
  EXPECT_EQ(cache.get(stop_).access_key_id, "third");
}

TEST_F(AwsCredentialsTest, UsesKeysUpToTheirEndWhereNoOthersAreToBeHad) {
  AwsCredentialCache cache(aws_implicit_credentials(environment(), ""), clock_);
  const std::string token = std::string("PUT ") + kMetadata + "/api/token";
  instance_answers("first");
  cache.get(stop_);
  clock_.time += std::chrono::hours(5) + std::chrono::minutes(56);
  http_.no_answer(token);
  EXPECT_EQ(cache.get(stop_).access_key_id, "first");
  EXPECT_EQ(cache.get(stop_).access_key_id, "first") << "without asking again at once";
  clock_.time += std::chrono::seconds(10);
  http_.answer(token, 503, "");
  EXPECT_EQ(cache.get(stop_).access_key_id, "first");
  clock_.time += std::chrono::minutes(4);
  http_.no_answer(token);
  EXPECT_THROW(cache.get(stop_), Error);
  instance_answers("second");
  EXPECT_EQ(cache.get(stop_).access_key_id, "second");
}

TEST_F(AwsCredentialsTest, DoesNotUseKeysThatTheServerRefused) {
  AwsCredentialCache cache(aws_implicit_credentials(environment(), ""), clock_);
  instance_answers("first");
  EXPECT_TRUE(cache.reject(cache.get(stop_)));
  http_.no_answer(std::string("PUT ") + kMetadata + "/api/token");
  EXPECT_THROW(cache.get(stop_), Error);
}

TEST_F(AwsCredentialsTest, AssumesRolesInAChain) {
  auto first = aws_assume_role(aws_static_credentials({"user", "x", ""}), {.arn = "arn:first"},
                               aws_token_service(environment(), "cn-north-1"), environment());
  const auto second =
      aws_assume_role(std::move(first), {.arn = "arn:second", .external_id = "e&x"},
                      aws_token_service(environment(), "cn-north-1"), environment());
  http_
      .answer("POST https://sts.cn-north-1.amazonaws.com.cn/", 200, sts_answer("AssumeRole", "one"))
      .answer("POST https://sts.cn-north-1.amazonaws.com.cn/", 200,
              sts_answer("AssumeRole", "two"));
  EXPECT_EQ(second->fetch(stop_).keys.access_key_id, "two");
  EXPECT_THAT(http_.asked()[1].header("Authorization"), HasSubstr("Credential=one/"));
  EXPECT_EQ(http_.asked()[1].header("x-amz-security-token"), "token");
  EXPECT_THAT(http_.asked()[1].body, HasSubstr("ExternalId=e%26x"));
}

TEST_F(AwsCredentialsTest, NamesTheRoleThatIsRefused) {
  const auto source =
      aws_assume_role(aws_static_credentials({"user", "hush", ""}), {.arn = "arn:role"},
                      aws_token_service(environment(), ""), environment());
  http_.answer("POST https://sts.us-east-1.amazonaws.com/", 403,
               "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User is "
               "not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>");
  try {
    source->fetch(stop_);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kInsufficientPrivilege);
    EXPECT_THAT(error.message(), testing::AllOf(HasSubstr("arn:role"), HasSubstr("AccessDenied")));
  }
}

}  // namespace
}  // namespace holdfast::storage
