#include "collection/chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/testing/names.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using storage::PutMode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::string layer_at(int minute) {
  return incremental_directory(
      kFull, *parse_timestamp("2026-11-21 10:00:00+00") + std::chrono::minutes(minute));
}

/// Layers of one relation file, id 1, of which each layer_at may hold some blocks.
class ChainTest : public ::testing::Test {
 protected:
  using Blocks = std::vector<std::size_t>;

  /// `partial`: blocks of frame 0; empty: the file whole.
  proto::Manifest write(std::string_view directory, const proto::Manifest* base, std::uint64_t size,
                        const Blocks& partial) {
    proto::Manifest manifest;
    manifest.set_subdirectory(std::string(directory));
    manifest.set_backup_uuid(std::string(16, static_cast<char>('a' + written_++)));
    manifest.set_type(base == nullptr ? proto::BACKUP_TYPE_FULL : proto::BACKUP_TYPE_INCREMENTAL);
    manifest.mutable_instance()->set_wal_segment_bytes(16U << 20);
    if (base != nullptr) {
      manifest.set_full(std::string(kFull));
      manifest.mutable_base()->set_directory(base->subdirectory());
      manifest.mutable_base()->set_backup_uuid(base->backup_uuid());
    }
    auto& file = *manifest.add_files();
    file.set_id(1);
    file.set_path("base/5/16384");
    file.set_size(size);
    file.set_kind(proto::FILE_KIND_RELATION);

    BackupUuid uuid{};
    std::copy_n(as_bytes(manifest.backup_uuid()).begin(), uuid.size(), uuid.begin());
    PackBuilder pack(1U << 20);
    FrameEncoder encoder(Compression{});
    pack.reset(1, uuid);
    FrameBlocks blocks;
    for (const std::size_t block : partial) blocks.set(block);
    Bytes plain(partial.empty() ? size : partial.size() * kBlockBytes);
    for (std::size_t i = 0; i < plain.size(); ++i) plain[i] = static_cast<std::byte>(i / 100);
    if (partial.empty()) {
      pack.add(encoder, 1, 0, plain);
    } else {
      pack.add_partial(encoder, 1, 0, blocks, plain);
    }
    store_summary(pack.finish(), *manifest.add_packs());
    store_.put(pack_key(directory, 1), pack.bytes(), PutMode::OnlyIfAbsent, stop_);
    write_manifest(store_, directory, manifest, stop_);
    return manifest;
  }

  std::vector<std::string> problems(std::string_view directory) {
    std::vector<std::string> found;
    const auto chain = read_chain(store_, directory, stop_);
    for (const auto& one : verify_data(store_, chain, 2, stop_)) found.push_back(one.problem);
    EXPECT_EQ(check_files(store_, chain, stop_).size(), found.size());
    return found;
  }

  template <typename Call>
  Error failure(const Call& call) {
    try {
      call();
    } catch (const Error& error) {
      return error;
    }
    return Error(sqlstate::kSuccess, "did not fail");
  }

  storage::MemoryStore store_;
  Stop stop_ = Stop::never();
  int written_ = 0;
};

TEST_F(ChainTest, ManifestsThatTogetherTakeTooMuchMemoryAreRefused) {
  const auto full = write(kFull, nullptr, kBlockBytes, {});
  write(layer_at(0), &full, kBlockBytes, {});
  const std::uint64_t one = full.SpaceUsedLong();
  EXPECT_EQ(read_manifests(store_, {std::string(kFull)}, stop_, one * 2).size(), 1U);
  const Error error = failure([&] {
    read_manifests(store_, {std::string(kFull), layer_at(0)}, stop_, one * 3 / 2);
  });
  EXPECT_EQ(error.state(), sqlstate::kOutOfMemory);
  EXPECT_THAT(error.message(), HasSubstr("the manifests of the 2 layers"));
}

TEST_F(ChainTest, NamesOfIncrementalsAreReadBack) {
  const std::string name = layer_at(0);
  EXPECT_EQ(name, "incrementals/2026/11/20-223000.00/20261121/100000.00");
  const auto parsed = parse_incremental_directory(name);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->full, kFull);
  EXPECT_EQ(incremental_directory(parsed->full, parsed->time), name);
  for (const char* text :
       {"", "incrementals/2026/11/20-223000.00/20261121/100000.0",
        "incrementals/2026/11/20-223000.00/20261321/100000.00",
        "incrementals/2026/11/20-223000x00/20261121/100000.00",
        "Incrementals/2026/11/20-223000.00/20261121/100000.00", "2026/11/20-223000.00"}) {
    EXPECT_FALSE(parse_incremental_directory(text)) << text;
  }
  EXPECT_TRUE(is_layer_directory(name));
  EXPECT_TRUE(is_layer_directory(kFull));
  EXPECT_FALSE(is_layer_directory("/2026/11/20-223000.00"));
}

TEST_F(ChainTest, ListsFinishedLayersInOrderOfTime) {
  EXPECT_THAT(list_layers(store_, kFull, stop_), IsEmpty());
  const auto full = write(kFull, nullptr, 8192, {});
  const auto second = write(layer_at(700), &full, 8192, {0});
  write(layer_at(1), &full, 8192, {0});
  store_.put(layer_at(2) + "/BACKUP-LOCK-9", as_bytes("lock"), PutMode::OnlyIfAbsent, stop_);
  EXPECT_THAT(list_layers(store_, kFull, stop_), ElementsAre(kFull, layer_at(1), layer_at(700)));
  EXPECT_THAT(list_fulls_with_incrementals(store_, stop_), ElementsAre(kFull));
  EXPECT_THAT(list_fulls(store_, stop_), ElementsAre(kFull));
}

TEST_F(ChainTest, FollowsTheBranchThatALayerIsOn) {
  const auto full = write(kFull, nullptr, 3 * 8192, {});
  const auto one = write(layer_at(1), &full, 3 * 8192, {0});
  write(layer_at(2), &full, 3 * 8192, {1});
  write(layer_at(3), &one, 3 * 8192, {2});
  const auto chain = read_chain(store_, layer_at(3), stop_);
  ASSERT_THAT(chain, SizeIs(3));
  EXPECT_EQ(chain[0].subdirectory(), kFull);
  EXPECT_EQ(chain[1].subdirectory(), layer_at(1));
  EXPECT_THAT(read_chain(store_, kFull, stop_), SizeIs(1));
  EXPECT_THAT(problems(layer_at(3)), IsEmpty());
}

TEST_F(ChainTest, BranchesAreWhatCanBeRead) {
  const auto full = write(kFull, nullptr, 8192, {});
  const auto one = write(layer_at(1), &full, 8192, {0});
  const auto three = write(layer_at(3), &one, 8192, {0});
  const auto other = write(layer_at(4), &one, 8192, {0});
  const auto found = branches(kFull, {full, one, three, other});
  ASSERT_THAT(found, SizeIs(2));
  for (const auto& chain : found) {
    EXPECT_EQ(chain.size(), read_chain(store_, chain.back().subdirectory(), stop_).size());
  }
  // A layer_at whose base has a later name.
  const auto two = write(layer_at(2), &three, 8192, {0});
  EXPECT_EQ(failure([&] { read_chain(store_, layer_at(2), stop_); }).state(),
            sqlstate::kUndefinedFile);
  EXPECT_EQ(failure([&] {
              branches(kFull, {full, one, two, three, other});
            }).state(),
            sqlstate::kDataCorrupted);
  EXPECT_EQ(failure([&] { branches(kFull, {full, three}); }).state(), sqlstate::kDataCorrupted);
}

TEST_F(ChainTest, BranchesBeginWithTheFullThatTheyBelongTo) {
  const std::string other = "2026/11/19-000000.00";
  const auto full = write(kFull, nullptr, 8192, {});
  const auto foreign = write(other, nullptr, 8192, {});
  const auto one = write(layer_at(1), &foreign, 8192, {0});
  EXPECT_EQ(failure([&] {
              branches(kFull, {full, foreign, one});
            }).state(),
            sqlstate::kDataCorrupted);
  EXPECT_THAT(branches(other, {foreign}), SizeIs(1));
  EXPECT_EQ(failure([&] { branches(kFull, {foreign}); }).state(), sqlstate::kDataCorrupted);
}

TEST_F(ChainTest, AManifestThatWasCopiedElsewhereIsRefused) {
  const auto full = write(kFull, nullptr, 8192, {});
  write(layer_at(1), &full, 8192, {0});
  const Bytes bytes = *get_whole(store_, manifest_key(layer_at(1)), 1 << 20, stop_);
  store_.put(manifest_key(layer_at(2)), bytes, PutMode::OnlyIfAbsent, stop_);
  for (const Error& error :
       {failure([&] { read_manifest(store_, layer_at(2), stop_); }), failure([&] {
          read_manifests(store_, {std::string(kFull), layer_at(2)}, stop_);
        }),
        failure([&] { read_chain(store_, layer_at(2), stop_); })}) {
    EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
    EXPECT_THAT(error.message(), HasSubstr(layer_at(2)));
  }
}

TEST_F(ChainTest, TheLatestStateIsThatOfTheLayerThatEndsLast) {
  const auto ending = [](std::string name, std::uint32_t timeline, std::uint64_t position,
                         std::int64_t end_time) {
    proto::Manifest manifest;
    manifest.set_subdirectory(std::move(name));
    manifest.mutable_stop()->set_timeline(timeline);
    manifest.mutable_stop()->set_position(position);
    manifest.set_end_time_us(end_time);
    return manifest;
  };
  // The first was interrupted and went on after the second had ended; the clock went back.
  EXPECT_EQ(latest_layer({ending("1", 1, 500, 10), ending("2", 1, 300, 20)}).subdirectory(), "1");
  EXPECT_EQ(latest_layer({ending("1", 1, 300, 10), ending("2", 1, 500, 5)}).subdirectory(), "2");
  EXPECT_EQ(latest_layer({ending("1", 1, 300, 10), ending("2", 1, 300, 10)}).subdirectory(), "2");
  // Positions of different timelines cannot be compared.
  EXPECT_EQ(latest_layer({ending("1", 1, 500, 10), ending("2", 2, 300, 20)}).subdirectory(), "2");
  EXPECT_EQ(latest_layer({ending("1", 2, 300, 20), ending("2", 1, 500, 10)}).subdirectory(), "1");
  auto other = ending("2", 1, 100, 1);
  other.mutable_instance()->set_system_identifier(7);
  EXPECT_FALSE(ends_later(other, ending("1", 1, 50, 0)));
  EXPECT_FALSE(ends_later(ending("1", 1, 500, 9), other));
}

TEST_F(ChainTest, RefusesAChainWithAMissingOrExchangedLayer) {
  const auto full = write(kFull, nullptr, 8192, {});
  const auto one = write(layer_at(1), &full, 8192, {0});
  write(layer_at(2), &one, 8192, {0});
  EXPECT_EQ(failure([&] { read_chain(store_, layer_at(9), stop_); }).state(),
            sqlstate::kUndefinedFile);
  const std::string key = manifest_key(layer_at(1));
  const Bytes kept = *get_whole(store_, key, 1 << 20, stop_);
  store_.remove(key, stop_);
  EXPECT_THAT(failure([&] { read_chain(store_, layer_at(2), stop_); }).message(),
              HasSubstr(layer_at(1)));
  const std::string full_key = manifest_key(kFull);
  const Bytes full_kept = *get_whole(store_, full_key, 1 << 20, stop_);
  store_.remove(full_key, stop_);
  EXPECT_THAT(failure([&] { read_chain(store_, layer_at(2), stop_); }).message(),
              HasSubstr(full_key));
  store_.put(full_key, full_kept, PutMode::OnlyIfAbsent, stop_);
  write(layer_at(1), &full, 8192, {0});
  const Error exchanged = failure([&] { read_chain(store_, layer_at(2), stop_); });
  EXPECT_EQ(exchanged.state(), sqlstate::kDataCorrupted);
}

TEST_F(ChainTest, FindsBlocksThatNoLayerHolds) {
  const auto full = write(kFull, nullptr, 4 * 8192, {});
  const auto grown = write(layer_at(1), &full, 7 * 8192, {4, 5, 6});
  EXPECT_THAT(problems(layer_at(1)), IsEmpty());
  // Truncated, then grown again: what the full had of blocks 2 and 3 is no content of theirs.
  const auto cut = write(layer_at(2), &grown, 2 * 8192, {0});
  EXPECT_THAT(problems(layer_at(2)), IsEmpty());
  const auto again = write(layer_at(3), &cut, 4 * 8192, {2});
  EXPECT_THAT(problems(layer_at(3)), ElementsAre(HasSubstr("no pack holds frame 0")));
}

TEST_F(ChainTest, APartialFrameOfAPackSurvivesItsIndex) {
  const auto full = write(kFull, nullptr, 128 * 8192, {});
  const auto layer_manifest = write(layer_at(1), &full, 128 * 8192, {0, 63, 64, 127});
  const auto pack = open_pack(store_, pack_key(layer_at(1), 1), stop_);
  ASSERT_THAT(pack.entries, SizeIs(1));
  EXPECT_TRUE(pack.entries[0].partial);
  EXPECT_EQ(pack.entries[0].blocks().count(), 4U);
  EXPECT_TRUE(pack.entries[0].blocks().test(63));
  EXPECT_TRUE(pack.entries[0].blocks().test(64));
  EXPECT_EQ(layer_manifest.packs(0).plain_bytes(), 4U * 8192);
  EXPECT_EQ(read_manifest(store_, layer_at(1), stop_)->format_version(), kChainFormatVersion);
  EXPECT_EQ(read_manifest(store_, kFull, stop_)->format_version(), kPlainFormatVersion);
}

TEST_F(ChainTest, FileIdsAreNeverUsedAgain) {
  proto::Manifest manifest = write(kFull, nullptr, 8192, {});
  EXPECT_EQ(next_file_id(manifest), 2U);
  manifest.mutable_packs(0)->set_last_file(7);
  EXPECT_EQ(next_file_id(manifest), 8U);
  manifest.set_next_file_id(100);
  EXPECT_EQ(next_file_id(manifest), 100U);
}

TEST(FrameBlocksTest, LeadingBlocksCountBegunOnes) {
  EXPECT_EQ(leading_blocks(0).count(), 0U);
  EXPECT_EQ(leading_blocks(1).count(), 1U);
  EXPECT_EQ(leading_blocks(8192).count(), 1U);
  EXPECT_EQ(leading_blocks(8193).count(), 2U);
  EXPECT_TRUE(leading_blocks(kFrameBytes).all());
}

}  // namespace
}  // namespace holdfast::collection
