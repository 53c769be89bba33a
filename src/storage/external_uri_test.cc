#include "storage/external_uri.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::storage {
namespace {

std::string resolve(std::string_view uri, std::string_view connection) {
  return resolve_external_uri(parse_external_uri(uri), connection);
}

TEST(ExternalUri, KnowsItsScheme) {
  EXPECT_TRUE(is_external("external://archive"));
  EXPECT_TRUE(is_external("EXTERNAL://archive"));
  EXPECT_FALSE(is_external("external:/archive"));
  EXPECT_FALSE(is_external("nodelocal://self/external://x"));
}

TEST(ExternalUri, PutsThePathBeforeTheParametersOfTheConnection) {
  EXPECT_EQ(resolve("external://a", "s3://bucket/base?AUTH=implicit"),
            "s3://bucket/base?AUTH=implicit");
  EXPECT_EQ(resolve("external://a/x/y", "s3://bucket/base?AUTH=implicit"),
            "s3://bucket/base/x/y?AUTH=implicit");
  EXPECT_EQ(resolve("external://a/x", "s3://bucket?AUTH=implicit"), "s3://bucket/x?AUTH=implicit");
  EXPECT_EQ(resolve("external://a/x", "nodelocal://self/"), "nodelocal://self/x");
  EXPECT_EQ(resolve("external://a/", "nodelocal://self/b"), "nodelocal://self/b");
}

TEST(ExternalUri, LeavesEncodedPathsToTheConnectionsScheme) {
  EXPECT_EQ(resolve("external://a/x%3Fy", "nodelocal://self/b"), "nodelocal://self/b/x%3Fy");
}

TEST(ExternalUri, DecodesTheName) {
  EXPECT_EQ(parse_external_uri("external://my%20archive/x").name, "my archive");
}

TEST(ExternalUri, HandsTheLocalityOn) {
  EXPECT_EQ(resolve("external://a/x?COCKROACH_LOCALITY=default", "s3://b?AUTH=implicit"),
            "s3://b/x?AUTH=implicit&COCKROACH_LOCALITY=default");
}

TEST(ExternalUri, RefusesOtherParametersAndAMissingName) {
  EXPECT_THROW(parse_external_uri("external://a?AUTH=implicit"), Error);
  EXPECT_THROW(parse_external_uri("external:///path"), Error);
}

}  // namespace
}  // namespace holdfast::storage
