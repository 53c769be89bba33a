#include "backup/base_layer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "storage/memory_store.h"

namespace holdfast::backup {
namespace {

using collection::proto::Manifest;

constexpr std::string_view kFull = "2026/11/20-223000.00";

Manifest layer(std::string_view directory) {
  Manifest manifest;
  manifest.set_format_version(collection::kFormatVersion);
  manifest.set_subdirectory(std::string(directory));
  return manifest;
}

TEST(BaseLayer, IsTheNewestOneBeforeTheLayerItself) {
  storage::MemoryStore store;
  const Stop stop = Stop::never();
  const auto at = [](int minute) {
    return collection::incremental_directory(
        kFull, *parse_timestamp("2026-11-21 10:00:00+00") + std::chrono::minutes(minute));
  };
  EXPECT_THROW(read_base_layer(store, kFull, at(2), stop), Error);
  collection::write_manifest(store, kFull, layer(kFull), stop);
  EXPECT_EQ(read_base_layer(store, kFull, at(2), stop).subdirectory(), kFull);
  collection::write_manifest(store, at(1), layer(at(1)), stop);
  // Begun after the interrupted layer, finished before it goes on.
  collection::write_manifest(store, at(3), layer(at(3)), stop);
  EXPECT_EQ(read_base_layer(store, kFull, at(2), stop).subdirectory(), at(1));
  EXPECT_EQ(read_base_layer(store, kFull, at(4), stop).subdirectory(), at(3));
}

TEST(BaseLayer, AStandbyMustHaveReplayedAllOfIt) {
  Manifest base = layer(kFull);
  base.mutable_stop()->set_position(0x2000);
  postgres::ControlFile control{};
  control.min_recovery_point = postgres::Lsn{0x1fff};
  try {
    require_replayed(base, control);
    ADD_FAILURE() << "a standby that is behind was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kObjectNotInPrerequisiteState);
  }
  control.min_recovery_point = postgres::Lsn{0x2000};
  require_replayed(base, control);
}

}  // namespace
}  // namespace holdfast::backup
