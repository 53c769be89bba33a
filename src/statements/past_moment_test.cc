#include "statements/past_moment.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "collection/collection.h"
#include "storage/memory_store.h"

namespace holdfast::statements {
namespace {

const Time kPastNow = *parse_timestamp("2026-11-20 12:00:00+00");
constexpr std::uint64_t kPastServer = 42;

/// Makes a store with these manifests; null bytes stand for a damaged one.
class PastFullTest : public ::testing::Test {
 protected:
  static std::string full_of_day(int days_ago) {
    return collection::subdirectory_for(kPastNow - std::chrono::days(days_ago));
  }
  static void put_full(storage::ObjectStore& store, int days_ago) {
    const Time end = kPastNow - std::chrono::days(days_ago);
    collection::proto::Manifest manifest;
    manifest.set_subdirectory(full_of_day(days_ago));
    auto& instance = *manifest.mutable_instance();
    instance.set_system_identifier(kPastServer);
    instance.set_server_version_num(170000);
    instance.set_wal_segment_bytes(16U << 20);
    manifest.mutable_start()->set_timeline(1);
    manifest.mutable_start()->set_position(0x1000028);
    manifest.mutable_stop()->set_timeline(1);
    manifest.mutable_stop()->set_position(0x1000100);
    manifest.set_start_time_us(end.time_since_epoch().count() - 1);
    manifest.set_end_time_us(end.time_since_epoch().count());
    collection::write_manifest(store, full_of_day(days_ago), manifest, Stop::never());
  }
  static void put_damaged(storage::ObjectStore& store, int days_ago) {
    store.put(collection::manifest_key(full_of_day(days_ago)), as_bytes("x"),
              storage::PutMode::OnlyIfAbsent, Stop::never());
  }
  /// Looks for this moment in a collection that `fill` makes.
  static backup::proto::BackupJobSpec search(
      const std::string& moment, const std::function<void(storage::ObjectStore&)>& fill) {
    const sql::Expression as_of{
        .kind = sql::Expression::Kind::String, .source = moment, .value = moment};
    backup::proto::BackupJobSpec spec;
    set_past_full({.as_of = as_of, .database = "postgres", .archives = nullptr, .now = kPastNow},
                  {.open_store =
                       [&] {
                         auto store = std::make_unique<storage::MemoryStore>();
                         fill(*store);
                         return store;
                       },
                   .guard = nullptr,
                   .system_identifier = kPastServer},
                  spec, Stop::never());
    return spec;
  }
  static Error refusal(const std::string& moment,
                       const std::function<void(storage::ObjectStore&)>& fill) {
    try {
      search(moment, fill);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error(sqlstate::kInternalError, "");
  }
};

TEST_F(PastFullTest, ADamagedChainDoesNotStandInAnothersWay) {
  const auto spec = search("2026-11-15 12:00:00+00", [](storage::ObjectStore& store) {
    put_full(store, 5);
    put_damaged(store, 1);
  });
  EXPECT_EQ(spec.as_of().layer(), full_of_day(5));
}

TEST_F(PastFullTest, WhenNoneCoversTheMomentEachSaysWhy) {
  const Error error = refusal("2026-11-01 12:00:00+00", [](storage::ObjectStore& store) {
    put_full(store, 5);
    put_damaged(store, 1);
  });
  EXPECT_EQ(error.state(), sqlstate::kInvalidParameterValue);
  EXPECT_NE(error.detail().find(full_of_day(5)), std::string::npos);
  EXPECT_NE(error.detail().find(full_of_day(1)), std::string::npos);
}

TEST_F(PastFullTest, WhereAllAreDamagedThatIsTheError) {
  EXPECT_EQ(
      refusal("2026-11-01 12:00:00+00", [](storage::ObjectStore& store) { put_damaged(store, 1); })
          .state(),
      sqlstate::kDataCorrupted);
}

}  // namespace
}  // namespace holdfast::statements
