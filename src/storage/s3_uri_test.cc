#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "storage/s3_store.h"

namespace holdfast::storage {
namespace {

S3Options parse_s3(const std::string& text) {
  return parse_s3_uri(parse_uri(text), redact_uri(text));
}

std::string s3_failure(const std::string& text) {
  try {
    parse_s3(text);
  } catch (const Error& error) {
    return error.message();
  }
  return "accepted";
}

const std::string kS3Keys = "AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=hush";

TEST(S3Uri, ReadsEveryParameter) {
  const S3Options options = parse_s3(
      "s3://bucket//a/b/?" + kS3Keys +
      "%2Bx y&AWS_SESSION_TOKEN=t&AWS_ENDPOINT=minio.example.com:9000/&AWS_REGION=eu-west-1&"
      "AWS_USE_PATH_STYLE=true&AWS_SKIP_CHECKSUM=1&AWS_SKIP_TLS_VERIFY=true&"
      "AWS_SERVER_ENC_MODE=aws:kms&AWS_SERVER_KMS_ID=key&S3_STORAGE_CLASS=STANDARD_IA&"
      "ASSUME_ROLE=arn:a,arn:b;external_id=x");
  EXPECT_EQ(options.bucket, "bucket");
  EXPECT_EQ(options.prefix, "a/b");
  EXPECT_EQ(options.endpoint, "https://minio.example.com:9000");
  EXPECT_EQ(options.region, "eu-west-1");
  EXPECT_EQ(options.auth.keys.access_key_id, "id");
  EXPECT_EQ(options.auth.keys.secret_access_key, "hush+x+y");
  EXPECT_EQ(options.auth.keys.session_token, "t");
  EXPECT_TRUE(options.path_style && options.skip_checksum && options.skip_tls_verify);
  EXPECT_EQ(options.encryption_mode, "aws:kms");
  EXPECT_EQ(options.kms_key_id, "key");
  EXPECT_EQ(options.storage_class, "STANDARD_IA");
  ASSERT_EQ(options.auth.roles.size(), 2U);
  EXPECT_EQ(options.auth.roles[0].arn, "arn:a");
  EXPECT_EQ(options.auth.roles[1].arn, "arn:b");
  EXPECT_EQ(options.auth.roles[1].external_id, "x");
}

TEST(S3Uri, ChoosesHowTheBucketIsAddressed) {
  EXPECT_FALSE(parse_s3("s3://bucket?" + kS3Keys).path_style);
  EXPECT_TRUE(parse_s3("s3://dotted.bucket?" + kS3Keys).path_style);
  EXPECT_FALSE(parse_s3("s3://b?" + kS3Keys + "&AWS_ENDPOINT=https://s3.example.com").path_style);
  EXPECT_TRUE(parse_s3("s3://b?" + kS3Keys + "&AWS_ENDPOINT=http://127.0.0.1:9000").path_style);
  EXPECT_TRUE(parse_s3("s3://b?" + kS3Keys + "&AWS_ENDPOINT=http://[::1]:9000").path_style);
  EXPECT_TRUE(parse_s3("s3://b?" + kS3Keys + "&AWS_ENDPOINT=localhost:9000").path_style);
}

TEST(S3Uri, TellsWhatIsWrongInTheReferencesWords) {
  EXPECT_EQ(s3_failure("s3:///path?" + kS3Keys),
            "empty host component; s3 URI must specify a target bucket");
  EXPECT_EQ(s3_failure("s3://b"), "AUTH is set to 'specified', but AWS_ACCESS_KEY_ID is not set");
  EXPECT_EQ(s3_failure("s3://b?AWS_ACCESS_KEY_ID=x"),
            "AUTH is set to 'specified', but AWS_SECRET_ACCESS_KEY is not set");
  EXPECT_EQ(s3_failure("s3://b?AUTH=guess"), "unsupported value guess for AUTH");
  EXPECT_EQ(s3_failure("s3://b?aws_region=x&Y=hush&" + kS3Keys),
            "unknown S3 query parameters: aws_region, Y");
  EXPECT_EQ(s3_failure("s3://b?AWS_SERVER_ENC_MODE=aws:kms&" + kS3Keys),
            "AWS_SERVER_KMS_ID param must be set when using aws:kms server side encryption mode.");
  for (const char* wrong :
       {"AWS_SERVER_ENC_MODE=x", "AWS_SERVER_KMS_ID=x", "S3_STORAGE_CLASS=COLD",
        "AWS_USE_PATH_STYLE=maybe", "AWS_REGION=a&AWS_REGION=b", "AWS_ENDPOINT=ftp://x",
        "AWS_ENDPOINT=https://host/path", "ASSUME_ROLE=a,,b", "ASSUME_ROLE=a;externalid=x"}) {
    EXPECT_NE(s3_failure("s3://b?" + kS3Keys + "&" + wrong), "accepted") << wrong;
  }
  EXPECT_NE(s3_failure("s3://b?AUTH=implicit&" + kS3Keys), "accepted");
  EXPECT_NE(s3_failure("s3://b/a/../c?" + kS3Keys), "accepted");
}

// What these names are put into is a URL, and its host decides who is asked.
TEST(S3Uri, NamesCannotLeadToAnotherHost) {
  for (const char* bucket : {"127.0.0.1:6379%2F", "inside.example.com%2F", "user@inside", "b%3F",
                             "b%23", "b%5Cc", ".", "..", "a..b", "B", "b_c", "%2e"}) {
    EXPECT_EQ(s3_failure(std::string("s3://") + bucket + "/p?" + kS3Keys),
              "the bucket of the s3 URI is not a valid name")
        << bucket;
  }
  for (const char* region :
       {"x.inside.example.com%2F", "x@127.0.0.1:80%2F%23", "eu.west", "EU", "a b"}) {
    EXPECT_EQ(s3_failure("s3://bucket?" + kS3Keys + "&AWS_REGION=" + region),
              "AWS_REGION is not a valid name")
        << region;
    EXPECT_EQ(s3_failure("s3://bucket?" + kS3Keys + "&ASSUME_ROLE=arn:a&AWS_REGION=" + region),
              "AWS_REGION is not a valid name")
        << region;
  }
  // Where the name stays behind the host, a store of another maker may take more.
  const std::string endpoint = "&AWS_ENDPOINT=https://s3.example.com";
  EXPECT_EQ(
      parse_s3("s3://tenant:Bucket_1?AWS_USE_PATH_STYLE=true&AWS_REGION=GRA&" + kS3Keys + endpoint)
          .region,
      "GRA");
  EXPECT_NE(s3_failure("s3://tenant:Bucket_1?" + kS3Keys + endpoint), "accepted");
  EXPECT_NE(s3_failure("s3://..?AWS_USE_PATH_STYLE=true&" + kS3Keys + endpoint), "accepted");
}

}  // namespace
}  // namespace holdfast::storage
