#include "storage/open_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::storage {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string open_failure(std::string_view uri, const StorageConfig& config = {}) {
  try {
    open_store(uri, config);
  } catch (const Error& error) {
    return error.message();
  }
  return "opened";
}

TEST(OpenStore, WithoutHttpAUriChoosesNoServer) {
  const StorageConfig closed = {.disable_http = true};
  for (const char* uri : {
           "http://h/p",
           "https://h/p",
           "file-http://h/p",
           "s3://b?AWS_ACCESS_KEY_ID=i&AWS_SECRET_ACCESS_KEY=s&AWS_ENDPOINT=https://h",
           "s3://b?AWS_ACCESS_KEY_ID=i&AWS_SECRET_ACCESS_KEY=s&ASSUME_ROLE=r&AWS_ENDPOINT=h",
           "s3://b?AUTH=implicit&%41WS_ENDPOINT=h",
           "azure://c?AZURE_ACCOUNT_NAME=acc&AUTH=implicit&AZURE_ENDPOINT=https://h",
           "gs://b?AUTH=implicit&GOOGLE_ENDPOINT=https://h",
       }) {
    EXPECT_THAT(open_failure(uri, closed), HasSubstr("--external-io-disable-http flag")) << uri;
  }
  for (const char* uri :
       {"s3://h%2F?AUTH=implicit", "s3://b?AUTH=implicit&AWS_REGION=h%2F",
        "azure://c?AUTH=implicit&AZURE_ACCOUNT_NAME=h%2F", "gs://h%2F?AUTH=implicit"}) {
    EXPECT_THAT(open_failure(uri, closed), HasSubstr("is not a valid name")) << uri;
  }
  for (const char* uri : {"s3://b?AUTH=implicit&AWS_REGION=eu-west-1", "gs://b?AUTH=implicit",
                          "azure://c?AZURE_ACCOUNT_NAME=acc&AUTH=implicit"}) {
    EXPECT_EQ(open_failure(uri, closed), "opened");
  }
}

TEST(OpenStore, APasswordThatIsNotEncodedIsNotTakenForAHost) {
  for (const char* uri : {"https://user:hu/sh@host/p", "https://user:hush?@host/p"}) {
    EXPECT_THAT(open_failure(uri), HasSubstr("has a port that is no number")) << uri;
    EXPECT_THAT(open_failure(uri), Not(HasSubstr("hu"))) << uri;
  }
  for (const char* uri : {"https://user:hush@host:8080/p", "http://[::1]:80/p", "http://[::1]/p"}) {
    EXPECT_EQ(open_failure(uri), "opened") << uri;
  }
}

}  // namespace
}  // namespace holdfast::storage
