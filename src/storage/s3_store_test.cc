#include "storage/s3_store.h"

#include "base/error.h"
#include "storage/testing/cloud_fixture.h"
#include "storage/wrappers.h"

namespace holdfast::storage {
namespace {

using testing::HasSubstr;

class S3StoreTest : public CloudTest {
 protected:
  std::unique_ptr<ObjectStore> open(S3Options options) {
    options.bucket = "bucket";
    if (!options.auth.implicit) options.auth.keys = {"id", "hush", ""};
    return open_s3_store(options, {.http = std::make_unique<BorrowedHttp>(http_),
                                   .environment = environment(),
                                   .description = "s3://bucket"});
  }
  PutResult put(ObjectStore& store, std::string_view bytes) {
    return store.put("k", as_bytes(bytes), PutMode::OnlyIfAbsent, stop_);
  }
  Error failure(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no error";
    return Error(sqlstate::kInternalError, "none");
  }
  static std::string error_body(const std::string& code) {
    return "<Error><Code>" + code + "</Code><Message>because.</Message></Error>";
  }
};

TEST_F(S3StoreTest, PutsWithChecksumClassAndEncryption) {
  const auto store = open({.prefix = "a b",
                           .region = "eu-west-1",
                           .storage_class = "STANDARD_IA",
                           .encryption_mode = "aws:kms",
                           .kms_key_id = "key"});
  http_.answer("PUT https://bucket.s3.eu-west-1.amazonaws.com/a%20b/k", 200, "");
  EXPECT_EQ(put(*store, "abc"), PutResult::Stored);
  const auto& asked = http_.asked()[0];
  EXPECT_EQ(asked.body, "abc");
  EXPECT_EQ(asked.header("If-None-Match"), "*");
  EXPECT_EQ(asked.header("x-amz-checksum-sha256"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
  EXPECT_EQ(asked.header("x-amz-storage-class"), "STANDARD_IA");
  EXPECT_EQ(asked.header("x-amz-server-side-encryption"), "aws:kms");
  EXPECT_EQ(asked.header("x-amz-server-side-encryption-aws-kms-key-id"), "key");
}

TEST_F(S3StoreTest, LearnsWhereTheBucketIs) {
  const auto store = open({});
  http_
      .answer("HEAD https://bucket.s3.us-east-1.amazonaws.com/k", 301, "",
              {{"x-amz-bucket-region", "eu-central-1"}})
      .answer("HEAD https://bucket.s3.eu-central-1.amazonaws.com/k", 200, "",
              {{"content-length", "3"}})
      .answer("HEAD https://bucket.s3.eu-central-1.amazonaws.com/k", 404, "");
  EXPECT_EQ(store->stat("k", stop_)->size, 3U);
  EXPECT_FALSE(store->stat("k", stop_));
  EXPECT_THAT(http_.asked()[1].header("Authorization"), HasSubstr("/eu-central-1/s3/"));
}

TEST_F(S3StoreTest, TriesWhetherAStoreHonoursConditions) {
  const auto store = open({.endpoint = "http://minio:9000", .path_style = true});
  http_.answer("HEAD http://minio:9000/bucket/k", 404, "")
      .answer("PUT http://minio:9000/bucket/k", 200, "")
      .answer("PUT http://minio:9000/bucket/k", 412, error_body("PreconditionFailed"))
      .answer("PUT http://minio:9000/bucket/k", 412, error_body("PreconditionFailed"));
  EXPECT_EQ(put(*store, "x"), PutResult::Stored);
  EXPECT_EQ(http_.asked()[2].body, "x");
  EXPECT_EQ(put(*store, "y"), PutResult::Taken);
}

TEST_F(S3StoreTest, LooksFirstWhereConditionsAreIgnored) {
  const auto store = open({.endpoint = "http://old:9000", .path_style = true});
  http_.answer("HEAD http://old:9000/bucket/k", 404, "")
      .answer("PUT http://old:9000/bucket/k", 200, "")
      .answer("PUT http://old:9000/bucket/k", 200, "")
      .answer("HEAD http://old:9000/bucket/k", 200, "", {{"content-length", "1"}});
  EXPECT_EQ(put(*store, "x"), PutResult::Stored);
  EXPECT_EQ(put(*store, "y"), PutResult::Taken);
}

TEST_F(S3StoreTest, LeavesOutConditionsThatAreRefused) {
  const auto store = open({.endpoint = "http://old:9000", .path_style = true});
  http_.answer("HEAD http://old:9000/bucket/k", 404, "")
      .answer("PUT http://old:9000/bucket/k", 501, error_body("NotImplemented"))
      .answer("PUT http://old:9000/bucket/k", 200, "");
  EXPECT_EQ(put(*store, "x"), PutResult::Stored);
  EXPECT_EQ(http_.asked()[2].header("If-None-Match"), "");
}

TEST_F(S3StoreTest, ListsAllPagesOnce) {
  const auto store = open({.prefix = "p"});
  const std::string start = "GET https://bucket.s3.us-east-1.amazonaws.com/?";
  http_
      .answer(start + "encoding-type=url&list-type=2&prefix=p%2F", 200,
              "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t/1"
              "</NextContinuationToken><Contents><Key>p/a+b%2Bc</Key><Size>1</Size></Contents>"
              "<Contents><Key>p/folder/</Key><Size>0</Size></Contents></ListBucketResult>")
      .answer(start + "continuation-token=t%2F1&", 200,
              "<ListBucketResult><IsTruncated>false</IsTruncated>"
              "<Contents><Key>p/a+b%2Bc</Key><Size>1</Size></Contents>"
              "<Contents><Key>p/z</Key><Size>2</Size></Contents></ListBucketResult>");
  std::vector<std::string> found;
  store->list(
      "", [&](const ObjectInfo& info) { found.push_back(info.key); }, stop_);
  EXPECT_THAT(found, testing::ElementsAre("a b+c", "z"));
}

TEST_F(S3StoreTest, AListThatGoesInACircleOrLosesItsEndFails) {
  const auto store = open({});
  const std::string start = "GET https://bucket.s3.us-east-1.amazonaws.com/?";
  const std::string page =
      "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>same"
      "</NextContinuationToken></ListBucketResult>";
  http_.answer(start, 200, page).answer(start, 200, page);
  const auto list = [&] {
    store->list(
        "", [](const ObjectInfo&) {}, stop_);
  };
  EXPECT_TRUE(failure(list).retry_is_safe());
  http_.answer(start, 200, "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>");
  EXPECT_EQ(failure(list).state(), sqlstate::kIoError);
  http_.answer(start, 200, "<html>proxy login</html>");
  EXPECT_EQ(failure(list).state(), sqlstate::kIoError);
}

TEST_F(S3StoreTest, SaysWhatMayBeTriedAgain) {
  const auto store = open({});
  const std::string line = "PUT https://bucket.s3.us-east-1.amazonaws.com/k";
  const auto put_it = [&] { put(*store, "x"); };
  for (const auto& [status, code] :
       {std::pair(503, "SlowDown"), std::pair(500, "InternalError"),
        std::pair(400, "RequestTimeout"), std::pair(409, "OperationAborted"),
        std::pair(400, "BadDigest"), std::pair(409, "ConditionalRequestConflict"),
        std::pair(400, "XAmzContentSHA256Mismatch"), std::pair(400, "Throttling"),
        std::pair(400, "ThrottlingException")}) {
    http_.answer(line, status, error_body(code), {{"retry-after", "7"}});
    const Error error = failure(put_it);
    EXPECT_TRUE(error.retry_is_safe()) << code;
    EXPECT_EQ(error.retry_after(), std::chrono::seconds(7));
  }
  http_.answer(line, 403, error_body("AccessDenied"));
  const Error denied = failure(put_it);
  EXPECT_FALSE(denied.retry_is_safe());
  EXPECT_EQ(denied.state(), sqlstate::kInsufficientPrivilege);
  EXPECT_EQ(denied.message(),
            "could not put object \"k\": because (HTTP status 403, AccessDenied)");
  http_.answer(line, 507, error_body("XMinioStorageFull"));
  EXPECT_EQ(failure(put_it).state(), sqlstate::kDiskFull);
}

// What conflicted may have been an earlier sending of the same put.
TEST_F(S3StoreTest, APutThatConflictsWithItselfIsStored) {
  const auto store = with_retry(open({}), {.first_delay = std::chrono::milliseconds(0)});
  const std::string object = " https://bucket.s3.us-east-1.amazonaws.com/k";
  http_.answer("PUT" + object, 409, error_body("ConditionalRequestConflict"))
      .answer("PUT" + object, 412, error_body("PreconditionFailed"))
      .answer("HEAD" + object, 200, "", {{"content-length", "3"}})
      .answer("HEAD" + object, 200, "", {{"content-length", "3"}})
      .answer("GET" + object, 206, "abc", {{"content-range", "bytes 0-2/3"}});
  EXPECT_EQ(put(*store, "abc"), PutResult::Stored);
}

TEST_F(S3StoreTest, APutOutlivesAMetadataServiceThatIsAway) {
  const auto store = open({.auth = {.implicit = true}});
  const std::string service = " http://169.254.169.254/latest";
  http_.answer("PUT" + service + "/api/token", 200, "metadata-token")
      .answer("GET" + service + "/meta-data/iam/security-credentials/", 200, "role")
      .answer("GET" + service + "/meta-data/iam/security-credentials/role", 200,
              R"({"AccessKeyId": "kept", "SecretAccessKey": "hush", "Token": "t",
                  "Expiration": "2026-11-25T06:00:00Z"})");
  const std::string object = "PUT https://bucket.s3.us-east-1.amazonaws.com/k";
  http_.answer(object, 200, "");
  EXPECT_EQ(put(*store, "x"), PutResult::Stored);
  clock_.time += std::chrono::hours(6) - std::chrono::minutes(4);
  http_.no_answer("PUT" + service + "/api/token").answer(object, 200, "");
  EXPECT_EQ(put(*store, "x"), PutResult::Stored);
  EXPECT_THAT(http_.asked().back().header("Authorization"), HasSubstr("Credential=kept/"));
}

TEST_F(S3StoreTest, AdoptsTheStoresClock) {
  const auto store = open({});
  const std::string line = "GET https://bucket.s3.us-east-1.amazonaws.com/k";
  http_
      .answer(line, 403, error_body("RequestTimeTooSkewed"),
              {{"date", "Wed, 25 Nov 2026 02:00:00 GMT"}})
      .answer(line, 404, error_body("NoSuchKey"));
  Bytes part(1);
  EXPECT_TRUE(failure([&] { store->get_into("k", 0, part, stop_); }).retry_is_safe());
  EXPECT_FALSE(store->get_into("k", 0, part, stop_));
  EXPECT_EQ(http_.asked()[1].header("x-amz-date"), "20261125T020000Z");
}

TEST_F(S3StoreTest, KeysThatCannotBeRenewedExpireForGood) {
  const auto store = open({});
  http_.answer("HEAD ", 400, error_body("ExpiredToken"));
  const Error error = failure([&] { store->stat("k", stop_); });
  EXPECT_FALSE(error.retry_is_safe());
  EXPECT_EQ(error.message(), "the storage credentials have expired");
}

TEST_F(S3StoreTest, NoticesPartsThatAreNotWhatWasAskedFor) {
  const auto store = open({});
  Bytes part(4);
  const auto get = [&] { store->get_into("k", 2, part, stop_); };
  http_.answer("GET ", 206, "2345", {{"content-range", "bytes 0-3/10"}});
  EXPECT_TRUE(failure(get).retry_is_safe());
  http_.answer("GET ", 206, "23", {{"content-range", "bytes 2-5/10"}});
  EXPECT_TRUE(failure(get).retry_is_safe());
  http_.answer("GET ", 206, "2", {{"content-range", "bytes 2-2/3"}});
  EXPECT_EQ(failure(get).state(), sqlstate::kDataCorrupted);
  http_.answer("GET ", 200, "0123");
  EXPECT_EQ(failure(get).state(), sqlstate::kFeatureNotSupported);
}

}  // namespace
}  // namespace holdfast::storage
