#include "base/redact_query.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast {
namespace {

TEST(RedactQuery, ShowsWhatIsKnownToBeHarmless) {
  for (const char* query :
       {"", "AUTH=implicit&AWS_REGION=x", "AWS_ACCESS_KEY_ID=AKIA", "AWS_ENDPOINT=https%3A%2F%2Fh",
        "ASSUME_ROLE=arn:aws:iam::1:role/b;external_id=x", "AUTH=&&AWS_SECRET_ACCESS_KEY="}) {
    EXPECT_EQ(redact_query(query), query);
  }
}

TEST(RedactQuery, HidesEverythingElse) {
  for (const char* name :
       {"AWS_SECRET_ACCESS_KEY", "AWS%5FSECRET_ACCESS_KEY", "apikey", "auth", "AWS_REGION ", "",
        "sig", "AZURE_SAS_TOKEN", "AWS_ENDPOINT%20", "MY_ENDPOINT"}) {
    EXPECT_EQ(redact_query(std::string(name) + "=hush"), std::string(name) + "=redacted") << name;
  }
}

// Who puts a secret in without encoding it must not have a part of it shown.
TEST(RedactQuery, HidesSecretsWithDelimitersInThem) {
  EXPECT_EQ(redact_query("AWS_SECRET_ACCESS_KEY=abc;def&AUTH=specified"),
            "AWS_SECRET_ACCESS_KEY=redacted&AUTH=specified");
  EXPECT_EQ(redact_query("AWS_SECRET_ACCESS_KEY=ab&cd"), "AWS_SECRET_ACCESS_KEY=redacted&redacted");
  EXPECT_EQ(redact_query("AWS_SECRET_ACCESS_KEY=a=b?c"), "AWS_SECRET_ACCESS_KEY=redacted");
  EXPECT_EQ(redact_query("AWS_SECRET_ACCESS_KEY=ab#cd&AUTH=x"),
            "AWS_SECRET_ACCESS_KEY=redacted#redacted");
  EXPECT_EQ(redact_query("hush"), "redacted");
}

TEST(RedactQuery, HidesEndpointsThatNameAUser) {
  for (const char* value :
       {"https://user:hush@h", "https%3A%2F%2Fuser:hush%40h", "https://u:p%4"}) {
    EXPECT_EQ(redact_query(std::string("AZURE_ENDPOINT=") + value), "AZURE_ENDPOINT=redacted");
  }
}

}  // namespace
}  // namespace holdfast
