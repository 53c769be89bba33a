#include "storage/aws_signer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::storage {
namespace {

/// The keys, moment and bucket of all examples in the Amazon S3 API reference, "Authenticating
/// Requests: Using the Authorization Header".
const AwsKeys kKeys = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
const Time kNow = std::chrono::sys_days(std::chrono::year(2013) / 5 / 24);
constexpr std::string_view kHost = "examplebucket.s3.amazonaws.com";
const std::string kEmptyHash = sha256_hex({});

std::string signature_of(const AwsRequest& request, const AwsKeys& keys = kKeys,
                         const AwsScope& scope = {"us-east-1", "s3"}, Time now = kNow) {
  const std::string authorization = sign_aws_request(request, keys, scope, now).back().second;
  return authorization.substr(authorization.rfind('=') + 1);
}

TEST(AwsSigner, SignsTheDocumentedGetOfARange) {
  EXPECT_EQ(signature_of({.method = net::HttpMethod::Get,
                          .host = std::string(kHost),
                          .path = "/test.txt",
                          .headers = {{"Range", "bytes=0-9"}},
                          .body_sha256 = kEmptyHash}),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(AwsSigner, SignsTheDocumentedPut) {
  EXPECT_EQ(signature_of({.method = net::HttpMethod::Put,
                          .host = std::string(kHost),
                          .path = "/test%24file.text",
                          .headers = {{"Date", "Fri, 24 May 2013 00:00:00 GMT"},
                                      {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                          .body_sha256 = sha256_hex(as_bytes("Welcome to Amazon S3."))}),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

TEST(AwsSigner, SignsTheDocumentedQueries) {
  EXPECT_EQ(signature_of({.host = std::string(kHost),
                          .path = "/",
                          .query = {{"lifecycle", ""}},
                          .body_sha256 = kEmptyHash}),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  EXPECT_EQ(signature_of({.host = std::string(kHost),
                          .path = "/",
                          .query = {{"prefix", "J"}, {"max-keys", "2"}},
                          .body_sha256 = kEmptyHash}),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

// Source: AWS Signature Version 4 test suite, "get-vanilla" and "get-vanilla-query-order-key-case".
TEST(AwsSigner, SignsForOtherServices) {
  const AwsKeys keys = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", ""};
  const Time now = std::chrono::sys_days(std::chrono::year(2015) / 8 / 30) +
                   std::chrono::hours(12) + std::chrono::minutes(36);
  EXPECT_EQ(signature_of({.host = "example.amazonaws.com", .path = "/", .body_sha256 = kEmptyHash},
                         keys, {"us-east-1", "service"}, now),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
  EXPECT_EQ(signature_of({.host = "example.amazonaws.com",
                          .path = "/",
                          .query = {{"Param2", "value2"}, {"Param1", "value1"}},
                          .body_sha256 = kEmptyHash},
                         keys, {"us-east-1", "service"}, now),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
}

TEST(AwsSigner, SignsTheSessionTokenWithTheRest) {
  AwsKeys keys = kKeys;
  keys.session_token = "token";
  const net::HttpHeaders headers =
      sign_aws_request({.host = std::string(kHost), .path = "/", .body_sha256 = kEmptyHash}, keys,
                       {"us-east-1", "s3"}, kNow);
  EXPECT_THAT(headers, testing::Contains(testing::Pair("x-amz-security-token", "token")));
  EXPECT_THAT(headers.back().second,
              testing::HasSubstr(
                  "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"));
}

}  // namespace
}  // namespace holdfast::storage
