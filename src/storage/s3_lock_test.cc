#include "base/error.h"
#include "storage/s3_store.h"
#include "storage/testing/cloud_fixture.h"

namespace holdfast::storage {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class S3LockTest : public CloudTest {
 protected:
  std::unique_ptr<ObjectStore> open(S3Options options, StoreAccess access) {
    options.bucket = "bucket";
    options.auth.keys = {"id", "hush", ""};
    return open_s3_store(options, {.http = std::make_unique<BorrowedHttp>(http_),
                                   .environment = environment(),
                                   .description = "s3://bucket",
                                   .access = std::move(access)});
  }
  static std::string entry(const std::string& kind, const std::string& key, const std::string& id,
                           const std::string& time, int size = 0) {
    return "<" + kind + "><Key>" + key + "</Key><VersionId>" + id + "</VersionId><LastModified>" +
           time + "</LastModified><Size>" + std::to_string(size) + "</Size></" + kind + ">";
  }
  static std::string page(const std::string& entries, const std::string& more = "") {
    return "<ListVersionsResult><IsTruncated>" + std::string(more.empty() ? "false" : "true") +
           "</IsTruncated>" + more + entries + "</ListVersionsResult>";
  }
  std::vector<std::string> list(ObjectStore& store, const std::string& prefix) {
    std::vector<std::string> found;
    store.list(
        prefix,
        [&](const ObjectInfo& info) {
          found.push_back(info.key + " " + std::to_string(info.size));
        },
        stop_);
    return found;
  }

  const std::string bucket_ = "https://bucket.s3.us-east-1.amazonaws.com/";
  const Time at_ = std::chrono::sys_days(std::chrono::year(2026) / 11 / 20);
};

TEST_F(S3LockTest, PutsWithARetentionWhatTheLockIsFor) {
  const auto store =
      open({}, {.lock = ObjectLock{.mode = LockMode::Compliance,
                                   .retain_for = std::chrono::hours(24),
                                   .applies_to = [](const ObjectKey& key) { return key == "k"; }}});
  http_.answer("PUT " + bucket_ + "k", 200, "").answer("PUT " + bucket_ + "lock", 200, "");
  store->put("k", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
  store->put("lock", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
  EXPECT_EQ(http_.asked()[0].header("x-amz-object-lock-mode"), "COMPLIANCE");
  EXPECT_EQ(http_.asked()[0].header("x-amz-object-lock-retain-until-date"),
            "2026-11-26T00:00:00.000Z");
  EXPECT_NE(http_.asked()[0].header("x-amz-checksum-sha256"), "");
  EXPECT_EQ(http_.asked()[1].header("x-amz-object-lock-mode"), "");
}

TEST_F(S3LockTest, SendsADigestAlsoWhereChecksumsAreSkipped) {
  const auto store =
      open({.skip_checksum = true}, {.lock = ObjectLock{.retain_for = std::chrono::hours(1)}});
  http_.answer("PUT ", 200, "");
  store->put("k", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
  EXPECT_EQ(http_.asked()[0].header("x-amz-object-lock-mode"), "GOVERNANCE");
  EXPECT_EQ(http_.asked()[0].header("Content-MD5"), "kAFQmDzST7DWlj99KOF/cg==");
  EXPECT_EQ(http_.asked()[0].header("x-amz-checksum-sha256"), "");
}

TEST_F(S3LockTest, SaysThatTheBucketHasNoObjectLock) {
  const auto store = open({}, {.lock = ObjectLock{.retain_for = std::chrono::hours(1)}});
  http_.answer("PUT ", 400,
               "<Error><Code>InvalidRequest</Code><Message>Bucket is missing "
               "ObjectLockConfiguration</Message></Error>");
  try {
    store->put("k", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("missing ObjectLockConfiguration"));
    EXPECT_THAT(error.hint(), HasSubstr("object lock"));
  }
}

TEST_F(S3LockTest, AnotherMakersStoreMustShowTheLock) {
  const S3Options options{.endpoint = "https://store.example.com", .region = "r"};
  const std::string place = "https://bucket.store.example.com/";
  const StoreAccess access{
      .lock = ObjectLock{.mode = LockMode::Compliance, .retain_for = std::chrono::hours(24)}};
  const net::HttpHeaders locked = {{"x-amz-object-lock-mode", "COMPLIANCE"},
                                   {"x-amz-object-lock-retain-until-date", "2026-11-26T00:00:00Z"}};
  const auto store = open(options, access);
  http_.answer("PUT " + place + "k", 200, "").answer("HEAD " + place + "k", 200, "", locked);
  EXPECT_EQ(store->put("k", as_bytes("abc"), PutMode::Overwrite, stop_), PutResult::Stored);
  // Once is enough.
  http_.answer("PUT " + place + "l", 200, "");
  EXPECT_EQ(store->put("l", as_bytes("abc"), PutMode::Overwrite, stop_), PutResult::Stored);

  // HEAD does not tell everybody.
  const auto other = open(options, access);
  http_.answer("PUT " + place + "k", 200, "")
      .answer("HEAD " + place + "k", 200, "")
      .answer("GET " + place + "k?retention=", 200,
              "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2026-11-26T00:00:00Z"
              "</RetainUntilDate></Retention>");
  EXPECT_EQ(other->put("k", as_bytes("abc"), PutMode::Overwrite, stop_), PutResult::Stored);
}

TEST_F(S3LockTest, AStoreThatIgnoresTheLockIsNotCalledLocked) {
  const std::string place = "https://bucket.store.example.com/";
  const auto refused = [&](const net::HttpHeaders& head, int status, std::string_view body) {
    const auto store = open(
        {.endpoint = "https://store.example.com", .region = "r"},
        {.lock = ObjectLock{.mode = LockMode::Compliance, .retain_for = std::chrono::hours(24)}});
    http_.answer("PUT " + place + "k", 200, "").answer("HEAD " + place + "k", 200, "", head);
    if (status != 0) http_.answer("GET " + place + "k?retention=", status, body);
    try {
      store->put("k", as_bytes("abc"), PutMode::Overwrite, stop_);
    } catch (const Error& error) {
      return error.message() + " / " + error.hint();
    }
    return std::string("accepted");
  };
  EXPECT_THAT(refused({}, 404, ""), HasSubstr("did not lock object \"k\""));
  // It takes the question for a plain GET.
  EXPECT_THAT(refused({}, 200, "abc"), HasSubstr("did not lock"));
  EXPECT_THAT(refused({{"x-amz-object-lock-mode", "GOVERNANCE"},
                       {"x-amz-object-lock-retain-until-date", "2026-11-26T00:00:00Z"}},
                      0, ""),
              HasSubstr("did not lock"));
  EXPECT_THAT(refused({{"x-amz-object-lock-mode", "COMPLIANCE"},
                       {"x-amz-object-lock-retain-until-date", "2026-11-25T12:00:00Z"}},
                      0, ""),
              HasSubstr("did not lock"));
  EXPECT_THAT(refused({}, 403, "<Error><Code>AccessDenied</Code></Error>"),
              HasSubstr("s3:GetObjectRetention"));
}

TEST_F(S3LockTest, ListsWhatWasThereAtTheMoment) {
  const auto store = open({.prefix = "p"}, {.versions_at = at_});
  http_
      .answer("GET " + bucket_ + "?encoding-type=url&prefix=p%2Fd%2F&versions=", 200,
              page(entry("DeleteMarker", "p/d/deleted+later", "5", "2026-11-21T00:00:00.000Z") +
                       entry("Version", "p/d/deleted+later", "4", "2026-11-19T00:00:00.000Z", 4) +
                       entry("DeleteMarker", "p/d/gone", "3", "2026-11-19T00:00:01.000Z") +
                       entry("Version", "p/d/gone", "2", "2026-11-19T00:00:00.000Z", 2) +
                       entry("Version", "p/d/new", "9", "2026-11-20T00:00:01.000Z", 9),
                   "<NextKeyMarker>p/d/new%2B</NextKeyMarker>"
                   "<NextVersionIdMarker>9</NextVersionIdMarker>"))
      .answer("GET " + bucket_ +
                  "?encoding-type=url&key-marker=p%2Fd%2Fnew%2B&prefix=p%2Fd%2F&"
                  "version-id-marker=9&versions=",
              200,
              page(entry("Version", "p/d/overwritten", "8", "2026-11-20T01:00:00.000Z", 8) +
                   entry("Version", "p/d/overwritten", "7", "2026-11-20T00:00:00.000Z", 7) +
                   entry("Version", "p/d/overwritten", "6", "2026-11-19T00:00:00.000Z", 6) +
                   entry("Version", "p/d/same", "b", "2026-11-19T00:00:00.000Z", 11) +
                   entry("DeleteMarker", "p/d/same", "a", "2026-11-19T00:00:00.000Z")));
  EXPECT_THAT(list(*store, "d"), ElementsAre("d/deleted later 4", "d/overwritten 7", "d/same 11"));
  // What a list told is not asked for again.
  EXPECT_EQ(store->stat("d/overwritten", stop_)->size, 7U);
  EXPECT_FALSE(store->stat("d/gone", stop_));
  http_.answer("GET " + bucket_ + "p/d/overwritten?versionId=7", 206, "1234",
               {{"content-range", "bytes 1-4/7"}});
  Bytes part(4);
  EXPECT_TRUE(store->get_into("d/overwritten", 1, part, stop_));
}

TEST_F(S3LockTest, FindsTheVersionOfOneObject) {
  const auto store = open({}, {.versions_at = at_});
  http_.answer("GET " + bucket_ + "?encoding-type=url&prefix=k&versions=", 200,
               page(entry("DeleteMarker", "k", "3", "2026-11-21T00:00:00.000Z") +
                        entry("Version", "k", "2", "2026-11-19T00:00:00.000Z", 5) +
                        entry("Version", "k-2", "1", "2026-11-19T00:00:00.000Z", 6),
                    "<NextKeyMarker>k-2</NextKeyMarker>"));
  EXPECT_EQ(store->stat("k", stop_)->size, 5U);
  Bytes part(4);
  EXPECT_THROW(store->get_into("k", 2, part, stop_), Error);
  http_.answer("GET " + bucket_ + "?encoding-type=url&prefix=other&versions=", 200, page(""));
  EXPECT_FALSE(store->get_into("other", 0, part, stop_));
  EXPECT_FALSE(store->stat("other", stop_));
}

TEST_F(S3LockTest, CanOnlyBeReadAsItWas) {
  const auto store = open({}, {.versions_at = at_});
  EXPECT_THROW(store->put("k", as_bytes("x"), PutMode::OnlyIfAbsent, stop_), Error);
  EXPECT_THROW(store->remove("k", stop_), Error);
  EXPECT_EQ(store->description(), "s3://bucket as of 2026-11-20 00:00:00+00");
}

}  // namespace
}  // namespace holdfast::storage
