// Where LATEST points when a full of an earlier moment ends.
#include <gtest/gtest.h>

#include "backup/backup_run.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "crypto/sealed_stream.h"
#include "storage/memory_store.h"

namespace holdfast::backup {
namespace {

using collection::proto::Manifest;

constexpr std::uint64_t kLatestServer = 42;

Time hours(int since) {
  return *parse_timestamp("2026-11-01 00:00:00+00") + std::chrono::hours(since);
}

class LatestTest : public ::testing::Test {
 protected:
  /// A layer that ends at this hour, at a position that is the hour, too.
  static Manifest layer(const std::string& directory, int hour) {
    Manifest manifest;
    manifest.set_subdirectory(directory);
    manifest.mutable_instance()->set_system_identifier(kLatestServer);
    manifest.mutable_stop()->set_timeline(1);
    manifest.mutable_stop()->set_position(static_cast<std::uint64_t>(hour));
    manifest.set_end_time_us(hours(hour).time_since_epoch().count());
    return manifest;
  }
  void put(storage::ObjectStore& store, const std::string& directory, int hour) {
    collection::write_manifest(store, directory, layer(directory, hour), stop_);
  }
  /// After a full of this hour, which is named after it.
  std::string after_full_of(int hour) {
    const std::string directory = collection::subdirectory_for(hours(hour));
    const Manifest full = layer(directory, hour);
    collection::write_manifest(store_, directory, full, stop_);
    point_latest_at(store_, full, hours(100), stop_);
    return collection::resolve_latest(store_, stop_);
  }

  storage::MemoryStore store_;
  const std::string full_ = collection::subdirectory_for(hours(1));
  Stop stop_ = Stop::never();
};

TEST_F(LatestTest, StaysAtAChainThatReachesFurther) {
  put(store_, full_, 2);
  put(store_, collection::incremental_directory(full_, hours(7)), 8);
  put(store_, collection::incremental_directory(full_, hours(9)), 10);
  collection::write_latest(store_, full_, hours(2), stop_);
  EXPECT_EQ(after_full_of(5), full_);
  EXPECT_EQ(after_full_of(9), full_);
  EXPECT_EQ(after_full_of(11), collection::subdirectory_for(hours(11)));
}

TEST_F(LatestTest, StaysWhereALayerThatCannotBeReadIsNotTheLatest) {
  put(store_, full_, 2);
  put(store_, collection::incremental_directory(full_, hours(7)), 8);
  store_.put(collection::manifest_key(collection::incremental_directory(full_, hours(9))),
             as_bytes("x"), storage::PutMode::OnlyIfAbsent, stop_);
  collection::write_latest(store_, full_, hours(2), stop_);
  EXPECT_EQ(after_full_of(5), full_);
}

TEST_F(LatestTest, OfAChainWithAnotherKeyNamesTell) {
  for (const std::string& directory : {full_, collection::incremental_directory(full_, hours(7))}) {
    store_.put(collection::manifest_key(directory), as_bytes(crypto::kSealedMagic),
               storage::PutMode::OnlyIfAbsent, stop_);
  }
  collection::write_latest(store_, full_, hours(2), stop_);
  EXPECT_EQ(after_full_of(5), full_);
  EXPECT_EQ(after_full_of(9), collection::subdirectory_for(hours(9)));
}

}  // namespace
}  // namespace holdfast::backup
