#include "storage/bucket_uri.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "storage/azure_store.h"
#include "storage/gcs_store.h"
#include "storage/s3_store.h"
#include "storage/uri.h"

namespace holdfast::storage {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string error_of(const Bucket& bucket) {
  try {
    return "no error: " + bucket_uri(bucket);
  } catch (const Error& error) {
    return std::string(error.state().view()) + ": " + error.message() + " " + error.detail() + " " +
           error.hint();
  }
}

TEST(BucketUri, OfS3MeansTheSame) {
  const std::string text = bucket_uri(
      {.kind = BucketKind::S3,
       .path = "my-bucket/a b/%2F/",
       .config =
           R"({"region": "eu-central-1", "endpoint_url": "https://minio:9000", "s3_force_path_style": "true",
               "multipart_chunk_size_mb": 20, "compatibility_mode": true,
               "x-amz-server-side-encryption": "aws:kms",
               "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:x"})",
       .credentials = R"({"aws_access_key_id": "id", "aws_secret_access_key": "a+/b=&c",
                          "aws_session_token": "t&u", "role_arn": "arn:aws:iam::1:role/r"})"});
  const S3Options options = parse_s3_uri(parse_uri(text), "");
  EXPECT_EQ(options.bucket, "my-bucket");
  EXPECT_EQ(options.prefix, "a b/%2F");
  EXPECT_EQ(options.region, "eu-central-1");
  EXPECT_EQ(options.endpoint, "https://minio:9000");
  EXPECT_TRUE(options.path_style);
  EXPECT_EQ(options.encryption_mode, "aws:kms");
  EXPECT_EQ(options.kms_key_id, "arn:aws:kms:x");
  EXPECT_EQ(options.auth.keys.access_key_id, "id");
  EXPECT_EQ(options.auth.keys.secret_access_key, "a+/b=&c");
  EXPECT_EQ(options.auth.keys.session_token, "t&u");
  EXPECT_EQ(options.auth.roles.size(), 1U);
  EXPECT_THAT(redact_uri(text), Not(HasSubstr("b%3D")));
}

TEST(BucketUri, WithoutCredentialsUsesTheDaemonsOwn) {
  EXPECT_EQ(bucket_uri({.kind = BucketKind::S3, .path = "b", .config = {}, .credentials = {}}),
            "s3://b?AUTH=implicit");
  EXPECT_EQ(
      bucket_uri({.kind = BucketKind::S3, .path = "/b/c/", .config = "{}", .credentials = "{}"}),
      "s3://b/c?AUTH=implicit");
  EXPECT_EQ(bucket_uri({.kind = BucketKind::Gcs, .path = "b/c", .config = {}, .credentials = "{}"}),
            "gs://b/c?AUTH=implicit");
}

TEST(BucketUri, OfAzureMeansTheSame) {
  const std::string text =
      bucket_uri({.kind = BucketKind::Azure,
                  .path = "container/x/y",
                  .config = "{}",
                  .credentials = R"({"account_name": "name", "account_key": "a+b/cg=="})"});
  const AzureOptions options = parse_azure_uri(parse_uri(text), "");
  EXPECT_EQ(options.container, "container");
  EXPECT_EQ(options.prefix, "x/y");
  EXPECT_EQ(options.account, "name");
  EXPECT_EQ(options.auth.kind, AzureAuthKind::AccountKey);
}

TEST(BucketUri, OfGcsTakesAKeyFile) {
  const std::string key =
      R"({"type": "service_account", "private_key": "hush", "client_email": "x"})";
  const std::string text =
      bucket_uri({.kind = BucketKind::Gcs, .path = "b/p", .config = {}, .credentials = key});
  EXPECT_EQ(parse_gcs_uri(parse_uri(text), "").auth.credentials_json, key);
  const std::string refused =
      error_of({.kind = BucketKind::Gcs,
                .path = "b/p",
                .config = {},
                .credentials = R"({"access_id": "i", "secret_key": "hush"})"});
  EXPECT_THAT(refused, HasSubstr("0A000: key \"access_id\" in CREDENTIALS is not supported yet"));
  EXPECT_THAT(refused, HasSubstr("service account"));
  EXPECT_THAT(refused, Not(HasSubstr("hush")));
}

TEST(BucketUri, NamesWhatIsWrongWithoutSecrets) {
  const auto s3 = [](std::string config, std::string credentials) {
    return error_of({.kind = BucketKind::S3,
                     .path = "b",
                     .config = std::move(config),
                     .credentials = std::move(credentials)});
  };
  EXPECT_THAT(s3("", R"({"aws_secret_access_key": "hush)"),
              HasSubstr("22023: CREDENTIALS is not a JSON object"));
  EXPECT_THAT(s3("[1]", ""), HasSubstr("CONFIG is not a JSON object"));
  EXPECT_THAT(s3(R"({"regoin": "x"})", ""), HasSubstr("unrecognized key \"regoin\" in CONFIG"));
  EXPECT_THAT(s3("", R"({"aws_secret_access_key": ["hush"]})"),
              HasSubstr("invalid value for \"aws_secret_access_key\" in CREDENTIALS"));
  // Never stored without the encryption that was asked for.
  EXPECT_THAT(s3(R"({"x-amz-server-side-encryption-customer-key": "hush"})", ""),
              HasSubstr("0A000"));
  EXPECT_THAT(error_of({.kind = BucketKind::S3, .path = "//", .config = {}, .credentials = {}}),
              HasSubstr("names no bucket"));
}

}  // namespace
}  // namespace holdfast::storage
