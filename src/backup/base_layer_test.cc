#include "backup/base_layer.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>

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
  manifest.set_format_version(collection::kChainFormatVersion);
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

TEST(BaseLayer, MustHaveItsPacks) {
  storage::MemoryStore store;
  const Stop stop = Stop::never();
  const std::string next =
      collection::incremental_directory(kFull, *parse_timestamp("2026-11-21 10:00:00+00"));
  const Bytes content(100);
  Manifest full = layer(kFull);
  for (const std::uint32_t number : {1U, 2U}) {
    auto& pack = *full.add_packs();
    pack.set_number(number);
    pack.set_size(content.size());
    pack.set_index_offset(content.size());
    pack.set_index_hash(std::string(16, 'h'));
    store.put(collection::pack_key(kFull, number), content, storage::PutMode::OnlyIfAbsent, stop);
  }
  collection::write_manifest(store, kFull, full, stop);
  EXPECT_EQ(read_base_layer(store, kFull, next, stop).subdirectory(), kFull);
  const auto problem = [&] {
    try {
      read_base_layer(store, kFull, next, stop);
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kObjectNotInPrerequisiteState);
      return error.message();
    }
    return std::string("none");
  };
  const std::string incomplete = "the previous backup \"2026/11/20-223000.00\" is not complete";
  store.remove(collection::pack_key(kFull, 2), stop);
  EXPECT_EQ(problem(), incomplete);
  store.put(collection::pack_key(kFull, 2), as_bytes("pa"), storage::PutMode::OnlyIfAbsent, stop);
  EXPECT_EQ(problem(), incomplete);
}

postgres::ControlFile at(postgres::TimelineId timeline, std::uint64_t position) {
  postgres::ControlFile control{};
  control.min_recovery_timeline = timeline;
  control.min_recovery_point = postgres::Lsn{position};
  return control;
}

Manifest ending(postgres::TimelineId timeline, std::uint64_t position) {
  Manifest base = layer(kFull);
  base.mutable_stop()->set_timeline(timeline);
  base.mutable_stop()->set_position(position);
  return base;
}

TEST(BaseLayer, AStandbyMustHaveReplayedAllOfIt) {
  const postgres::TimelinePath path(1, {});
  EXPECT_FALSE(has_replayed(ending(1, 0x2000), at(1, 0x1fff), path));
  EXPECT_FALSE(has_replayed(ending(1, 0x2000), at(0, 0), path));
  EXPECT_TRUE(has_replayed(ending(1, 0x2000), at(1, 0x2000), path));
  EXPECT_EQ(not_replayed(ending(1, 0x2000), at(1, 0x1fff)).state(),
            sqlstate::kObjectNotInPrerequisiteState);
}

// A position alone says nothing: two timelines have the same ones.
TEST(BaseLayer, AStandbyOfAnotherTimelineHasNotReplayedIt) {
  // Timeline 2 left timeline 1 at 0x1800.
  const postgres::TimelinePath second(
      2, {{.timeline = 1, .switch_point = postgres::Lsn{0x1800}, .reason = {}}});
  const postgres::TimelinePath first(1, {});
  EXPECT_TRUE(has_replayed(ending(2, 0x2000), at(2, 0x2000), second));
  EXPECT_TRUE(has_replayed(ending(1, 0x1700), at(2, 0x2000), second));
  EXPECT_FALSE(has_replayed(ending(2, 0x2000), at(1, 0x1700), second));
  for (const auto& [base, control, path] : {std::tuple(ending(2, 0x2000), at(1, 0x3000), second),
                                            std::tuple(ending(2, 0x2000), at(1, 0x3000), first),
                                            std::tuple(ending(1, 0x2000), at(2, 0x3000), second)}) {
    try {
      has_replayed(base, control, path);
      ADD_FAILURE() << "a standby of another history was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.message(), "the standby does not follow the history of the previous backup");
    }
  }
}

}  // namespace
}  // namespace holdfast::backup
