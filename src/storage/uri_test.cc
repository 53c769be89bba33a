#include "storage/uri.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::storage {
namespace {

TEST(ParseUri, CutsAndDecodes) {
  const StorageUri uri = parse_uri("S3://bucket/a%20b/c?AUTH=specified&KEY=a%2Fb%3D&EMPTY#ignored");
  EXPECT_EQ(uri.scheme, "s3");
  EXPECT_EQ(uri.host, "bucket");
  EXPECT_EQ(uri.path, "a b/c");
  EXPECT_THAT(uri.parameters,
              testing::ElementsAre(testing::Pair("AUTH", "specified"), testing::Pair("KEY", "a/b="),
                                   testing::Pair("EMPTY", "")));
}

TEST(ParseUri, TakesAHostWithoutPath) {
  EXPECT_EQ(parse_uri("nodelocal://1").path, "");
  EXPECT_EQ(parse_uri("nodelocal://1?X=/y").host, "1");
}

TEST(ParseUri, ItsErrorsHoldNoSecret) {
  for (const char* text : {"s3://b/%zz?AWS_SECRET_ACCESS_KEY=hush", "no uri hush"}) {
    try {
      parse_uri(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.message().find("hush"), std::string::npos) << error.message();
    }
  }
}

TEST(ReachesAsDaemon, TellsWhatTheUrisOwnSecretsDoNotOpen) {
  for (const char* text : {"nodelocal://1/a", "http://h/a", "file-https://h/a",
                           "s3://b?AUTH=implicit", "s3://b?AWS_ENDPOINT=h", "gs://b?AUTH=implicit",
                           "gs://b?BEARER_TOKEN=t&GOOGLE_ENDPOINT=h"}) {
    EXPECT_TRUE(reaches_as_daemon(parse_uri(text))) << text;
  }
  for (const char* text : {"s3://b?AWS_ACCESS_KEY_ID=a&AWS_SECRET_ACCESS_KEY=b", "s3://b",
                           "gs://b?CREDENTIALS=c", "azure://c?AUTH=specified"}) {
    EXPECT_FALSE(reaches_as_daemon(parse_uri(text))) << text;
  }
}

TEST(RedactUri, HidesEverythingThatMayBeSecret) {
  EXPECT_EQ(redact_uri("s3://b/p?AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=hush&NEW_SECRET=hush"),
            "s3://b/p?AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=redacted&NEW_SECRET=redacted");
  EXPECT_EQ(redact_uri("http://user:hush@host/p"), "http://user:redacted@host/p");
  for (const char* name : {"AWS_SESSION_TOKEN", "AZURE_ACCOUNT_KEY", "AZURE_SAS_TOKEN",
                           "AZURE_CLIENT_SECRET", "CREDENTIALS", "BEARER_TOKEN"}) {
    EXPECT_EQ(redact_uri(std::string("x://h?") + name + "=hush"),
              std::string("x://h?") + name + "=redacted");
  }
  EXPECT_EQ(redact_uri("nodelocal://1/a/b"), "nodelocal://1/a/b");
  EXPECT_EQ(redact_uri("s3://b?AWS_SECRET_ACCESS_KEY=hu;sh"),
            "s3://b?AWS_SECRET_ACCESS_KEY=redacted");
  EXPECT_EQ(redact_uri("https://h/p?hush"), "https://h/p?redacted");
  EXPECT_EQ(redact_uri("hush"), "redacted");
  EXPECT_EQ(redact_uri("https://hush@host/p"), "https://redacted@host/p");
  EXPECT_EQ(redact_uri("https://user:hu/sh?@host/p"), "https://user:redacted@host/p");
  EXPECT_EQ(redact_uri("azure://c?AZURE_ENDPOINT=https%3A%2F%2Fuser:hush%40h"),
            "azure://c?AZURE_ENDPOINT=redacted");
  EXPECT_EQ(redact_uri("azure://c?AZURE_ENDPOINT=https%3A%2F%2Fh"),
            "azure://c?AZURE_ENDPOINT=https%3A%2F%2Fh");
}

}  // namespace
}  // namespace holdfast::storage
