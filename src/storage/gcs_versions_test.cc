// Locks and versions of a Google bucket, over the answers that its documentation shows.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "storage/gcs_store.h"
#include "storage/testing/cloud_fixture.h"

namespace holdfast::storage {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class GcsVersionsTest : public CloudTest {
 protected:
  std::unique_ptr<ObjectStore> open(GcsOptions options, StoreAccess access) {
    options.auth.bearer_token = "t";
    return open_gcs_store(options, {.http = std::make_unique<BorrowedHttp>(http_),
                                    .environment = environment(),
                                    .description = "gs://b",
                                    .access = std::move(access)});
  }
  static StoreAccess lock(LockMode mode) {
    return {.lock = ObjectLock{.mode = mode,
                               .retain_for = std::chrono::hours(24),
                               .applies_to = [](const ObjectKey& key) { return key != "free"; }}};
  }
  /// An entry of a list; `deleted` is empty for the live version.
  static nlohmann::json item(const std::string& name, const std::string& generation, int size,
                             const std::string& created, const std::string& deleted = "") {
    nlohmann::json json = {{"name", name},
                           {"generation", generation},
                           {"size", std::to_string(size)},
                           {"timeCreated", created}};
    if (!deleted.empty()) json["timeDeleted"] = deleted;
    return json;
  }
  static std::string page(std::initializer_list<nlohmann::json> items, const char* next = nullptr) {
    nlohmann::json json = {{"items", items}};
    if (next != nullptr) json["nextPageToken"] = next;
    return json.dump();
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

  const std::string upload_ = "POST https://storage.googleapis.com/upload/storage/v1/b/b/o?";
  const std::string objects_ = "GET https://storage.googleapis.com/storage/v1/b/b/o";
  const Time at_ = std::chrono::sys_days(std::chrono::year(2026) / 11 / 20);
};

TEST_F(GcsVersionsTest, PutsWithARetentionWhatTheLockIsFor) {
  for (const auto& [mode, name] :
       {std::pair(LockMode::Compliance, "Locked"), std::pair(LockMode::Governance, "Unlocked")}) {
    const auto store = open({.bucket = "b", .prefix = "p"}, lock(mode));
    const std::size_t before = http_.asked().size();
    http_.answer(upload_ + "ifGenerationMatch=0&uploadType=multipart", 200, "{}")
        .answer(upload_, 200, "{}");
    store->put("k", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
    store->put("free", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
    const std::string& body = http_.asked()[before].body;
    const std::size_t start = body.find('{');
    const auto metadata =
        nlohmann::json::parse(body.substr(start, body.find("\r\n", start) - start));
    EXPECT_EQ(metadata["name"], "p/k");
    EXPECT_EQ(metadata["md5Hash"], "kAFQmDzST7DWlj99KOF/cg==");
    EXPECT_EQ(metadata["retention"]["mode"], name);
    EXPECT_EQ(metadata["retention"]["retainUntilTime"], "2026-11-26T00:00:00.000Z");
    EXPECT_EQ(http_.asked()[before + 1].body.find("retention"), std::string::npos);
  }
}

TEST_F(GcsVersionsTest, AnotherMakersStoreMustShowTheLock) {
  const std::string upload = "POST https://gs.example.com/upload/storage/v1/b/b/o?";
  const auto put = [&](std::string_view answer) {
    const auto store =
        open({.bucket = "b", .endpoint = "https://gs.example.com", .own_endpoint = true},
             lock(LockMode::Compliance));
    http_.answer(upload, 200, answer);
    try {
      store->put("k", as_bytes("abc"), PutMode::OnlyIfAbsent, stop_);
    } catch (const Error& error) {
      return error.message();
    }
    return std::string("stored");
  };
  EXPECT_EQ(put(R"({"name":"k","retention":{"mode":"Locked",)"
                R"("retainUntilTime":"2026-11-26T00:00:00Z"}})"),
            "stored");
  for (const char* answer :
       {"", "[]", R"({"name":"k"})",
        R"({"retention":{"mode":"Unlocked","retainUntilTime":"2026-11-26T00:00:00Z"}})",
        R"({"retention":{"mode":"Locked","retainUntilTime":"2026-11-25T00:00:00Z"}})",
        R"({"retention":{"mode":"Locked"}})"}) {
    EXPECT_THAT(put(answer), HasSubstr("did not lock object \"k\"")) << answer;
  }
}

TEST_F(GcsVersionsTest, ShowsWhatWasThereAtTheMoment) {
  const auto store = open({.bucket = "b", .prefix = "p"}, {.versions_at = at_});
  const std::string fields =
      "fields=items%28name%2Csize%2Cgeneration%2CtimeCreated%2CtimeDeleted"
      "%29%2CnextPageToken";
  http_
      .answer(
          objects_ + "?" + fields + "&prefix=p%2F&versions=true", 200,
          page({item("p/d/deleted later", "1", 4, "2026-11-19T00:00:00.000Z",
                     "2026-11-21T00:00:00.000Z"),
                item("p/d/gone", "2", 2, "2026-11-18T00:00:00.000Z", "2026-11-19T00:00:00.123Z"),
                item("p/d/new", "9", 9, "2026-11-20T00:00:01.000Z")},
               "more"))
      .answer(objects_ + "?" + fields + "&pageToken=more&prefix=p%2F&versions=true", 200,
              page({item("p/d/overwritten", "3", 6, "2026-11-18T00:00:00.000Z",
                         "2026-11-20T00:00:00.000Z"),
                    item("p/d/overwritten", "4", 7, "2026-11-20T00:00:00.000Z",
                         "2026-11-20T00:00:05.000Z"),
                    item("p/d/overwritten", "5", 8, "2026-11-20T00:00:05.000Z"),
                    item("p/e/f/unchanged", "6", 11, "2026-11-19T00:00:00.000Z"),
                    item("p/e-1/x", "7", 1, "2026-11-19T00:00:00.000Z")}));
  EXPECT_THAT(list(*store, "d"), ElementsAre("d/deleted later 4", "d/overwritten 7"));
  // Everything else is known by now.
  EXPECT_THAT(list(*store, ""), testing::SizeIs(4));
  EXPECT_THAT(store->list_directories("", stop_), ElementsAre("d", "e", "e-1"));
  EXPECT_THAT(store->list_directories("e", stop_), ElementsAre("f"));
  EXPECT_EQ(store->stat("d/overwritten", stop_)->size, 7U);
  EXPECT_FALSE(store->stat("d/gone", stop_));
  EXPECT_FALSE(store->stat("d/new", stop_));
  http_.answer(objects_ + "/p%2Fd%2Foverwritten?alt=media&generation=4", 206, "1234",
               {{"content-range", "bytes 1-4/7"}});
  Bytes part(4);
  EXPECT_TRUE(store->get_into("d/overwritten", 1, part, stop_));
  EXPECT_THROW(store->get_into("d/overwritten", 4, part, stop_), Error);
  EXPECT_FALSE(store->get_into("d/gone", 0, part, stop_));
}

TEST_F(GcsVersionsTest, CanOnlyBeReadAsItWas) {
  const auto store = open({.bucket = "b"}, {.versions_at = at_});
  EXPECT_THROW(store->put("k", as_bytes("x"), PutMode::OnlyIfAbsent, stop_), Error);
  EXPECT_THROW(store->remove("k", stop_), Error);
  EXPECT_EQ(store->description(), "gs://b as of 2026-11-20 00:00:00+00");
}

TEST_F(GcsVersionsTest, AnAnswerThatSaysTooLittleIsNoListOfVersions) {
  for (const auto& entry :
       {nlohmann::json({{"name", "k"}, {"size", "1"}, {"timeCreated", "2026-11-19T00:00:00Z"}}),
        nlohmann::json({{"name", "k"}, {"size", "1"}, {"generation", "1"}}),
        item("k", "1", 1, "2026-11-19T00:00:00Z", "yesterday")}) {
    const auto store = open({.bucket = "b"}, {.versions_at = at_});
    http_.answer(objects_, 200, page({entry}));
    try {
      store->stat("k", stop_);
      ADD_FAILURE() << entry;
    } catch (const Error& error) {
      EXPECT_TRUE(error.retry_is_safe());
    }
  }
}

}  // namespace
}  // namespace holdfast::storage
