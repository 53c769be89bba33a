// Services that answer something else than what was asked for: each driver must notice.
#include "base/error.h"
#include "storage/azure_store.h"
#include "storage/gcs_store.h"
#include "storage/s3_store.h"
#include "storage/testing/cloud_fixture.h"

namespace holdfast::storage {
namespace {

enum class Driver { S3, Azure, Gcs };

class LyingStoreTest : public CloudTest, public testing::WithParamInterface<Driver> {
 protected:
  std::unique_ptr<ObjectStore> open() {
    auto http = std::make_unique<BorrowedHttp>(http_);
    switch (GetParam()) {
      case Driver::S3: {
        S3Options options{.bucket = "b", .region = "us-east-1"};
        options.auth.keys = {"id", "hush", ""};
        return open_s3_store(
            options,
            {.http = std::move(http), .environment = environment(), .description = "s3://b"});
      }
      case Driver::Azure: {
        AzureOptions options{
            .container = "c", .account = "acc", .endpoint = "https://acc.blob.core.windows.net"};
        options.auth.kind = AzureAuthKind::SharedAccessSignature;
        options.auth.sas_token = "sig=s";
        return open_azure_store(
            options,
            {.http = std::move(http), .environment = environment(), .description = "azure://c"});
      }
      case Driver::Gcs: {
        GcsOptions options{.bucket = "b"};
        options.auth.bearer_token = "t";
        return open_gcs_store(
            options,
            {.http = std::move(http), .environment = environment(), .description = "gs://b"});
      }
    }
    return nullptr;
  }

  /// What becomes of a get of the bytes 4 to 7: what was read, or the error's SQLSTATE.
  std::string get(int status, std::string_view body, const std::string& range) {
    net::HttpHeaders headers;
    if (!range.empty()) headers.emplace_back("content-range", range);
    http_.answer("GET ", status, body, headers);
    Bytes part(4);
    try {
      return open()->get_into("k", 4, part, stop_) ? std::string(as_text(part)) : "(absent)";
    } catch (const Error& error) {
      return std::string(error.state().view()) + (error.retry_is_safe() ? " again" : "");
    }
  }
};

TEST_P(LyingStoreTest, WhatIsNotTheRangeThatWasAskedForIsRefused) {
  const std::string failed = std::string(sqlstate::kIoError.view()) + " again";
  EXPECT_EQ(get(206, "abc", "bytes 4-7/9"), failed);   // shorter than it says
  EXPECT_EQ(get(206, "abc", "bytes 4-6/9"), failed);   // another part
  EXPECT_EQ(get(206, "abcd", "bytes 0-3/9"), failed);  // another place
  EXPECT_EQ(get(206, "abcd", "bytes 5-8/9"), failed);
  EXPECT_EQ(get(206, "abcd", "what"), failed);
  EXPECT_EQ(get(206, "ab", "bytes 4-5/6"), std::string(sqlstate::kDataCorrupted.view()));
  EXPECT_EQ(get(416, "", ""), std::string(sqlstate::kDataCorrupted.view()));
}

INSTANTIATE_TEST_SUITE_P(Drivers, LyingStoreTest,
                         testing::Values(Driver::S3, Driver::Azure, Driver::Gcs));

}  // namespace
}  // namespace holdfast::storage
