// Locks and versions of an Azure container, over the answers that its documentation shows.
#include "base/error.h"
#include "storage/azure_store.h"
#include "storage/testing/cloud_fixture.h"

namespace holdfast::storage {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class AzureVersionsTest : public CloudTest {
 protected:
  std::unique_ptr<ObjectStore> open(AzureOptions options, StoreAccess access) {
    options.account = "acc";
    if (options.endpoint.empty()) options.endpoint = "https://acc.blob.core.windows.net";
    options.auth.kind = AzureAuthKind::SharedAccessSignature;
    options.auth.sas_token = "sig=s";
    return open_azure_store(options, {.http = std::make_unique<BorrowedHttp>(http_),
                                      .environment = environment(),
                                      .description = "azure://c",
                                      .access = std::move(access)});
  }
  static StoreAccess lock(LockMode mode) {
    return {.lock = ObjectLock{.mode = mode,
                               .retain_for = std::chrono::hours(24),
                               .applies_to = [](const ObjectKey& key) { return key != "free"; }}};
  }
  /// An entry of a list; `id` is empty for a blob from before versions were kept.
  static std::string blob(const std::string& name, const std::string& id, int size,
                          const std::string& modified = "Thu, 19 Nov 2026 00:00:00 GMT") {
    return "<Blob><Name>" + name + "</Name>" +
           (id.empty() ? "" : "<VersionId>" + id + "</VersionId>") + "<Properties><Last-Modified>" +
           modified + "</Last-Modified><Content-Length>" + std::to_string(size) +
           "</Content-Length></Properties></Blob>";
  }
  static std::string page(const std::string& blobs, const std::string& next = "") {
    return "<?xml version=\"1.0\"?><EnumerationResults><Blobs>" + blobs + "</Blobs><NextMarker>" +
           next + "</NextMarker></EnumerationResults>";
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

  const std::string container_ = "https://acc.blob.core.windows.net/c";
  const Time at_ = std::chrono::sys_days(std::chrono::year(2026) / 11 / 20);
};

TEST_F(AzureVersionsTest, PutsWithARetentionWhatTheLockIsFor) {
  for (const auto& [mode, name] :
       {std::pair(LockMode::Compliance, "locked"), std::pair(LockMode::Governance, "unlocked")}) {
    const auto store = open({.container = "c"}, lock(mode));
    const std::size_t before = http_.asked().size();
    http_.answer("PUT " + container_ + "/k", 201, "")
        .answer("PUT " + container_ + "/free", 201, "");
    store->put("k", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
    store->put("free", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
    const auto& asked = http_.asked()[before];
    EXPECT_EQ(asked.header("x-ms-immutability-policy-mode"), name);
    EXPECT_EQ(asked.header("x-ms-immutability-policy-until-date"), "Thu, 26 Nov 2026 00:00:00 GMT");
    EXPECT_EQ(asked.header("Content-MD5"), "kAFQmDzST7DWlj99KOF/cg==");
    EXPECT_EQ(asked.header("If-None-Match"), "*");
    EXPECT_EQ(http_.asked()[before + 1].header("x-ms-immutability-policy-mode"), "");
  }
}

TEST_F(AzureVersionsTest, AnotherMakersStoreMustShowTheLock) {
  const std::string place = "https://blob.example.com/acc/c/";
  const auto put = [&](const net::HttpHeaders& head) {
    const auto store =
        open({.container = "c", .endpoint = "https://blob.example.com/acc", .own_endpoint = true},
             lock(LockMode::Compliance));
    http_.answer("PUT " + place + "k", 201, "").answer("HEAD " + place + "k", 200, "", head);
    try {
      store->put("k", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
      // Once is enough.
      http_.answer("PUT " + place + "l", 201, "");
      store->put("l", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
    } catch (const Error& error) {
      return error.message();
    }
    return std::string("stored");
  };
  const auto head = [](const char* mode, const char* until) {
    return net::HttpHeaders{{"x-ms-immutability-policy-mode", mode},
                            {"x-ms-immutability-policy-until-date", until}};
  };
  EXPECT_EQ(put(head("locked", "Thu, 26 Nov 2026 00:00:00 GMT")), "stored");
  for (const auto& wrong :
       {net::HttpHeaders{}, head("unlocked", "Thu, 26 Nov 2026 00:00:00 GMT"),
        head("locked", "Wed, 25 Nov 2026 00:00:00 GMT"), head("locked", "never")}) {
    EXPECT_THAT(put(wrong), HasSubstr("did not lock object \"k\""));
  }
}

TEST_F(AzureVersionsTest, ShowsWhatWasThereAtTheMoment) {
  const auto store = open({.container = "c", .prefix = "p"}, {.versions_at = at_});
  http_
      .answer("GET " + container_ + "?comp=list&include=versions&prefix=p%2F&restype=container",
              200,
              page(blob("p/d/deleted", "2026-11-19T00:00:00.1234567Z", 4) +
                       blob("p/d/new", "2026-11-20T00:00:01.0000000Z", 9) + blob("p/d/old", "", 3) +
                       blob("p/d/old and changed", "", 3, "Sat, 21 Nov 2026 00:00:00 GMT"),
                   "more"))
      .answer("GET " + container_ +
                  "?comp=list&include=versions&marker=more&prefix=p%2F&restype=container",
              200,
              page(blob("p/d/overwritten", "2026-11-18T00:00:00.0000000Z", 6) +
                   blob("p/d/overwritten", "2026-11-19T00:00:00.0000000Z", 7) +
                   blob("p/d/overwritten", "2026-11-20T00:00:05.0000000Z", 8) +
                   blob("p/e/f/x", "2026-11-19T00:00:00.0000000Z", 1)));
  EXPECT_THAT(list(*store, "d"), ElementsAre("d/deleted 4", "d/old 3", "d/overwritten 7"));
  EXPECT_THAT(store->list_directories("", stop_), ElementsAre("d", "e"));
  EXPECT_EQ(store->stat("d/overwritten", stop_)->size, 7U);
  EXPECT_FALSE(store->stat("d/new", stop_));
  http_
      .answer(
          "GET " + container_ + "/p/d/overwritten?sig=s&versionid=2026-11-19T00%3A00%3A00.0000000Z",
          206, "1234", {{"content-range", "bytes 1-4/7"}})
      .answer("GET " + container_ + "/p/d/old?sig=s", 206, "abc",
              {{"content-range", "bytes 0-2/3"}});
  Bytes part(4);
  EXPECT_TRUE(store->get_into("d/overwritten", 1, part, stop_));
  Bytes whole(3);
  EXPECT_TRUE(store->get_into("d/old", 0, whole, stop_));
  EXPECT_FALSE(store->get_into("d/new", 0, whole, stop_));
}

TEST_F(AzureVersionsTest, CanOnlyBeReadAsItWas) {
  const auto store = open({.container = "c"}, {.versions_at = at_});
  EXPECT_THROW(store->put("k", as_bytes("x"), PutMode::OnlyIfAbsent, stop_), Error);
  EXPECT_THROW(store->remove("k", stop_), Error);
}

}  // namespace
}  // namespace holdfast::storage
