// Objects that a released format version wrote must stay readable for ever. They are never written
// anew: a change that these tests notice is a new format version, with a directory of its own.
// HOLDFAST_WRITE_GOLDEN=<directory> writes those of this build.

#include <algorithm>

#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/error.h"
#include "collection/block_map_store.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/recovery_target.h"
#include "collection/testing/names.h"
#include "collection/wal_archive.h"
#include "io/file.h"
#include "storage/local_store.h"

namespace holdfast::collection {
namespace {

constexpr std::string_view kIncremental = "incrementals/2026/11/20-223000.00/20261120/231500.00";
constexpr std::string_view kWalOnly = "incrementals/2026/11/20-223000.00/20261120/231600.00";
const WalSegmentId kWal{
    .system_identifier = 42, .timeline = 1, .segment = 3, .segment_bytes = 1 << 20};

BackupUuid golden_uuid() {
  BackupUuid uuid{};
  for (std::size_t i = 0; i < uuid.size(); ++i) uuid[i] = static_cast<std::byte>(i);
  return uuid;
}

BackupUuid golden_incremental_uuid() {
  BackupUuid uuid = golden_uuid();
  uuid[0] = std::byte{0xFF};
  return uuid;
}

Bytes text_page() {
  Bytes page(8192);
  constexpr std::string_view kText = "the quick brown fox ";
  for (std::size_t i = 0; i < page.size(); ++i) {
    page[i] = static_cast<std::byte>(kText[i % kText.size()]);
  }
  return page;
}

Bytes wal_frame() {
  Bytes frame(1 << 20);
  for (std::size_t i = 0; i < frame.size(); ++i) frame[i] = static_cast<std::byte>(i / 4096);
  return frame;
}

std::unique_ptr<storage::ObjectStore> open(const std::string& directory) {
  return storage::open_local_store(
      {.root_directory = directory, .prefix = "", .description = "golden", .files = nullptr});
}

void write_golden(storage::ObjectStore& store, const Stop& stop) {
  proto::Manifest manifest;
  manifest.set_holdfast_version("0.1.0");
  manifest.set_backup_uuid(std::string(as_text(golden_uuid())));
  manifest.set_job_id(11);
  manifest.set_type(proto::BACKUP_TYPE_FULL);
  manifest.set_scope(proto::SCOPE_CLUSTER);
  manifest.set_subdirectory(std::string(kFull));
  manifest.mutable_instance()->set_system_identifier(kWal.system_identifier);
  manifest.mutable_instance()->set_wal_segment_bytes(kWal.segment_bytes);
  const std::vector<Bytes> files = {text_page(), Bytes(8192), Bytes(4, std::byte{'t'})};
  PackBuilder builder(1 << 16);
  FrameEncoder encoder(Compression{});
  builder.reset(7, golden_uuid());
  for (std::uint32_t i = 0; i < files.size(); ++i) {
    builder.add(encoder, i + 1, 0, files[i]);
    auto* file = manifest.add_files();
    file->set_id(i + 1);
    file->set_path("base/5/" + std::to_string(1000 + i));
    file->set_size(files[i].size());
    file->set_mode(0600);
    file->set_kind(proto::FILE_KIND_RELATION);
  }
  store_summary(builder.finish(), *manifest.add_packs());
  store.put(pack_key(kFull, 7), builder.bytes(), storage::PutMode::OnlyIfAbsent, stop);
  auto* segment = manifest.add_wal();
  segment->set_timeline(kWal.timeline);
  segment->set_segment(kWal.segment);
  segment->set_stored_bytes(put_wal_segment(
      store, kWal,
      [](std::uint64_t, MutableByteView into) {
        const Bytes frame = wal_frame();
        std::copy(frame.begin(), frame.end(), into.begin());
      },
      Compression{}, stop));
  put_timeline_history(store, 42, 2, as_bytes("1\t0/3000000\tgolden\n"), stop);
  write_manifest(store, kFull, manifest, stop);
  write_latest(store, kFull, *parse_subdirectory(kFull), stop);
}

/// What a map of kWal may hold: single blocks, a run, a limit and a whole database.
BlockMap golden_map() {
  BlockMap map(coverage_of(kWal));
  for (const std::uint32_t block : {3U, 70'000U, 140'000U}) {
    map.change({.relation = {1663, 5, 1000}, .fork = postgres::Fork::Main, .block = block});
  }
  for (std::uint32_t block = 100; block < 600; ++block) {
    map.change({.relation = {1663, 5, 1001}, .fork = postgres::Fork::Main, .block = block});
  }
  map.from({.relation = {1663, 5, 1001}, .fork = postgres::Fork::Main, .block = 500});
  map.relation({1663, 5, 1002});
  map.database(16'400, 1663);
  return map;
}

/// A layer that adds a block to the first file of the full, has the second as it was, the third
/// anew, and one more.
void write_golden_incremental(storage::ObjectStore& store, const Stop& stop) {
  proto::Manifest manifest;
  manifest.set_holdfast_version("0.1.0");
  manifest.set_backup_uuid(std::string(as_text(golden_incremental_uuid())));
  manifest.set_job_id(12);
  manifest.set_type(proto::BACKUP_TYPE_INCREMENTAL);
  manifest.set_scope(proto::SCOPE_CLUSTER);
  manifest.set_subdirectory(std::string(kIncremental));
  manifest.set_full(std::string(kFull));
  manifest.set_next_file_id(6);
  manifest.set_change_source(proto::CHANGE_SOURCE_WAL);
  manifest.set_revision_history(true);
  auto& base = *manifest.mutable_base();
  base.set_directory(std::string(kFull));
  base.set_backup_uuid(std::string(as_text(golden_uuid())));
  manifest.mutable_instance()->set_system_identifier(kWal.system_identifier);
  manifest.mutable_instance()->set_wal_segment_bytes(kWal.segment_bytes);
  const auto add_file = [&](std::uint32_t id, std::string_view path, std::uint64_t size) {
    auto* file = manifest.add_files();
    file->set_id(id);
    file->set_path(std::string(path));
    file->set_size(size);
    file->set_mode(0600);
    file->set_kind(proto::FILE_KIND_RELATION);
    return file;
  };
  add_file(1, "base/5/1000", 16'384);
  add_file(2, "base/5/1001", 8192);
  PackBuilder builder(1 << 16);
  FrameEncoder encoder(Compression{});
  builder.reset(1, golden_incremental_uuid());
  builder.add_partial(encoder, 1, 0, FrameBlocks(0b10), text_page());
  std::uint32_t id = 4;
  for (const std::string_view path : {"base/5/1002", "base/5/1003"}) {
    const Bytes content(6, std::byte{'u'});
    const Hash128 hash = builder.add(encoder, id, 0, content).hash;
    auto* file = add_file(id++, path, content.size());
    file->set_kind(proto::FILE_KIND_PLAIN);
    const auto bytes = to_bytes(hash);
    file->set_frame_hashes(std::string(as_text(bytes)));
  }
  store_summary(builder.finish(), *manifest.add_packs());
  store.put(pack_key(kIncremental, 1), builder.bytes(), storage::PutMode::OnlyIfAbsent, stop);
  put_block_map(store, kWal, golden_map(), stop);
  write_manifest(store, kIncremental, manifest, stop);
}

/// A layer that ends in the middle of the WAL behind the incremental, and holds no data.
void write_golden_wal_only(storage::ObjectStore& store, const Stop& stop) {
  proto::Manifest manifest = *read_manifest(store, kIncremental, stop);
  BackupUuid uuid = golden_uuid();
  uuid[0] = std::byte{0xFE};
  manifest.set_backup_uuid(std::string(as_text(uuid)));
  manifest.set_job_id(13);
  manifest.set_subdirectory(std::string(kWalOnly));
  manifest.mutable_base()->set_directory(std::string(kIncremental));
  manifest.mutable_base()->set_backup_uuid(std::string(as_text(golden_incremental_uuid())));
  manifest.clear_packs();
  const postgres::Lsn start = postgres::segment_start(kWal.segment, kWal.segment_bytes);
  manifest.mutable_start()->set_timeline(kWal.timeline);
  manifest.mutable_start()->set_position(start.value + 40);
  manifest.mutable_stop()->set_timeline(kWal.timeline);
  manifest.mutable_stop()->set_position(start.value + 500);
  *manifest.mutable_recovery_target() = to_proto({.timeline = kWal.timeline,
                                                  .record = postgres::Lsn{start.value + 400},
                                                  .end = postgres::Lsn{start.value + 500}});
  auto* segment = manifest.add_wal();
  segment->set_timeline(kWal.timeline);
  segment->set_segment(kWal.segment);
  write_manifest(store, kWalOnly, manifest, stop);
}

class GoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, StaysReadable) {
  const Stop stop = Stop::never();
  const auto store = open(std::string(HOLDFAST_GOLDEN) + "/" + GetParam());
  EXPECT_EQ(list_fulls(*store, stop), std::vector<std::string>{std::string(kFull)});
  EXPECT_EQ(resolve_latest(*store, stop), kFull);
  const auto manifest = read_manifest(*store, kFull, stop);
  ASSERT_TRUE(manifest);
  EXPECT_EQ(manifest->job_id(), 11);
  ASSERT_EQ(manifest->files_size(), 3);
  EXPECT_EQ(manifest->files(2).path(), "base/5/1002");
  for (const FileProblem& problem : verify_data(*store, {&*manifest, 1}, 1, stop)) {
    ADD_FAILURE() << problem.key << ": " << problem.problem;
  }

  const storage::ObjectKey key = pack_key(kFull, 7);
  const auto entries =
      read_pack_index(*store, key, summary_of(manifest->packs(0)), golden_uuid(), stop);
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[1].codec, Codec::Zero);
  Bytes stored(entries[0].stored_bytes);
  ASSERT_TRUE(store->get_into(key, entries[0].offset, stored, stop));
  Bytes page(8192);
  FrameDecoder().decode(entries[0], stored, page, key);
  EXPECT_TRUE(page == text_page());

  EXPECT_TRUE(get_wal_segment(
      *store, kWal,
      [](std::uint64_t, ByteView bytes) {
        const Bytes frame = wal_frame();
        EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), frame.begin(), frame.end()));
      },
      stop));
  EXPECT_EQ(as_text(*get_timeline_history(*store, 42, 2, stop)), "1\t0/3000000\tgolden\n");
}
INSTANTIATE_TEST_SUITE_P(Formats, GoldenTest, testing::Values("format-1", "format-2", "format-3"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           name[name.find('-')] = '_';
                           return name;
                         });

TEST(GoldenChainTest, OfFormat2StaysReadable) {
  const Stop stop = Stop::never();
  const auto store = open(std::string(HOLDFAST_GOLDEN) + "/format-2");
  EXPECT_EQ(list_layers(*store, kFull, stop),
            (std::vector<std::string>{std::string(kFull), std::string(kIncremental)}));
  const auto chain = read_chain(*store, kIncremental, stop);
  ASSERT_EQ(chain.size(), 2U);
  const proto::Manifest& layer = chain[1];
  EXPECT_EQ(layer.format_version(), 2U);
  EXPECT_EQ(layer.job_id(), 12);
  EXPECT_EQ(layer.change_source(), proto::CHANGE_SOURCE_WAL);
  EXPECT_TRUE(layer.revision_history());
  EXPECT_EQ(next_file_id(layer), 6U);
  ASSERT_EQ(layer.files_size(), 4);
  EXPECT_EQ(layer.files(2).id(), 4U);
  EXPECT_EQ(layer.files(2).path(), "base/5/1002");
  for (const FileProblem& problem : verify_data(*store, chain, 1, stop)) {
    ADD_FAILURE() << problem.key << ": " << problem.problem;
  }

  const storage::ObjectKey key = pack_key(kIncremental, 1);
  const auto entries =
      read_pack_index(*store, key, summary_of(layer.packs(0)), golden_incremental_uuid(), stop);
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_TRUE(entries[0].partial);
  EXPECT_EQ(entries[0].blocks(), FrameBlocks(0b10));
  EXPECT_FALSE(entries[1].partial);
  EXPECT_EQ(hash_from_bytes(as_bytes(layer.files(2).frame_hashes())), entries[1].hash);
  Bytes stored(entries[0].stored_bytes);
  ASSERT_TRUE(store->get_into(key, entries[0].offset, stored, stop));
  Bytes page(8192);
  FrameDecoder().decode(entries[0], stored, page, key);
  EXPECT_TRUE(page == text_page());

  const auto map = get_block_map(*store, kWal, stop);
  ASSERT_TRUE(map);
  EXPECT_EQ(serialize(*map), serialize(golden_map()));
  EXPECT_TRUE(map->whole_database(16'400, 1663));
  EXPECT_EQ(map->find({1663, 5, 1001}, postgres::Fork::Main)->limit, 500U);
  EXPECT_EQ(map->find({1663, 5, 1001}, postgres::Fork::Main)->blocks.size(), 400U);
  EXPECT_EQ(map->find({1663, 5, 1002}, postgres::Fork::Main)->limit, 0U);
}

TEST(GoldenChainTest, OfFormat3StaysReadable) {
  const Stop stop = Stop::never();
  const auto store = open(std::string(HOLDFAST_GOLDEN) + "/format-3");
  const auto chain = read_chain(*store, kWalOnly, stop);
  ASSERT_EQ(chain.size(), 3U);
  const proto::Manifest& layer = chain[2];
  EXPECT_EQ(layer.format_version(), 3U);
  EXPECT_EQ(chain[1].format_version(), 2U);
  EXPECT_EQ(chain[0].format_version(), 1U);
  EXPECT_EQ(layer.packs_size(), 0);
  const auto target = target_of(layer);
  ASSERT_TRUE(target);
  EXPECT_EQ(target->timeline, 1U);
  EXPECT_EQ(target->record, postgres::Lsn{0x300000 + 400});
  EXPECT_EQ(target->end, postgres::Lsn{0x300000 + 500});
  for (const FileProblem& problem : verify_data(*store, chain, 1, stop)) {
    ADD_FAILURE() << problem.key << ": " << problem.problem;
  }
}

TEST(GoldenWriterTest, WritesWhatTheReaderExpects) {
  const Stop stop = Stop::never();
  const char* wanted = ::getenv("HOLDFAST_WRITE_GOLDEN");
  std::string pattern = testing::TempDir() + "/holdfast-golden-XXXXXX";
  const std::string directory = wanted != nullptr ? wanted : ::mkdtemp(pattern.data());
  const auto store = open(directory);
  write_golden(*store, stop);
  write_golden_incremental(*store, stop);
  write_golden_wal_only(*store, stop);
  const auto manifest = read_manifest(*store, kFull, stop);
  ASSERT_TRUE(manifest);
  EXPECT_TRUE(verify_data(*store, {&*manifest, 1}, 1, stop).empty());
  EXPECT_TRUE(verify_data(*store, read_chain(*store, kIncremental, stop), 1, stop).empty());
  EXPECT_TRUE(verify_data(*store, read_chain(*store, kWalOnly, stop), 1, stop).empty());
  if (wanted == nullptr) io::remove_tree(io::FileSystem::real(), directory);
}

}  // namespace
}  // namespace holdfast::collection
