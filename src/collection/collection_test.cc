#include "collection/collection.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "collection/manifest_internal.h"
#include "collection/testing/names.h"
#include "storage/fault_store.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using storage::PutMode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Time at(std::string_view text) { return *parse_timestamp(text); }

class CollectionTest : public ::testing::Test {
 protected:
  void put(const std::string& key, std::string_view content) {
    store_.put(key, as_bytes(content), PutMode::Overwrite, stop_);
  }
  std::vector<std::string> keys(const std::string& prefix = "") {
    std::vector<std::string> found;
    store_.list(
        prefix, [&](const storage::ObjectInfo& info) { found.push_back(info.key); }, stop_);
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
};

proto::Manifest small_manifest() {
  proto::Manifest manifest;
  manifest.set_format_version(kPlainFormatVersion);
  manifest.set_backup_uuid(std::string(16, 'u'));
  manifest.set_subdirectory(std::string(kFull));
  manifest.mutable_instance()->set_system_identifier(7000000000000000001ULL);
  manifest.mutable_instance()->set_wal_segment_bytes(16U << 20);
  auto* file = manifest.add_files();
  file->set_id(1);
  file->set_path("base/5/1259");
  file->set_size(8192);
  return manifest;
}

TEST(NamesTest, SubdirectoriesAreUtcWithCentiseconds) {
  EXPECT_EQ(subdirectory_for(at("2026-11-20 22:30:00.129999+00")), "2026/11/20-223000.12");
  EXPECT_EQ(subdirectory_for(at("2026-01-02 03:04:05+00")), "2026/01/02-030405.00");
  EXPECT_EQ(parse_subdirectory("/2026/11/20-223000.12"), at("2026-11-20 22:30:00.12+00"));
  EXPECT_EQ(subdirectory_for(*parse_subdirectory("2026/11/20-235959.99")), "2026/11/20-235959.99");
  for (const char* text : {"", "2026/11/20-223000", "2026/13/20-223000.00", "2026/02/30-223000.00",
                           "2026/11/20-243000.00", "2026/11/20-223000.0x", "x026/11/20-223000.00",
                           "2026/11/20-223000.00/", "//2026/11/20-223000.00"}) {
    EXPECT_FALSE(parse_subdirectory(text)) << text;
  }
}

TEST(NamesTest, WalObjectsAreNamedAsPostgresNamesSegments) {
  EXPECT_EQ(wal_key(42, 1, 0x16B, 16 << 20), "wal/42/00000001/00000001000000010000006B.wal");
  EXPECT_EQ(wal_key(42, 10, 5, 1 << 30), "wal/42/0000000A/0000000A0000000100000001.wal");
}

TEST_F(CollectionTest, ListsFinishedFullsOldestFirstAmongForeignThings) {
  for (const char* key :
       {"2026/11/20-223000.00/BACKUP_MANIFEST", "2025/01/31-130501.25/BACKUP_MANIFEST",
        "2026/11/21-000000.00/data/1.pack", "2026/11/99-000000.00/BACKUP_MANIFEST",
        "2026/notes.txt", "2026/11/BACKUP_MANIFEST", "incrementals/2026/11/20-223000.00/x",
        "wal/1/2/3.wal", "README", "20260/11/20-223000.00/BACKUP_MANIFEST"}) {
    put(key, "x");
  }
  EXPECT_THAT(list_fulls(store_, stop_),
              ElementsAre("2025/01/31-130501.25", "2026/11/20-223000.00"));
}

TEST_F(CollectionTest, ListsManyFullsInOrder) {
  std::vector<std::string> expected;
  for (int i = 0; i < 300; ++i) {
    expected.push_back(subdirectory_for(at("2026-01-01 00:00:00+00") + std::chrono::hours(i)));
    put(manifest_key(expected.back()), "x");
  }
  EXPECT_EQ(list_fulls(store_, stop_), expected);
}

TEST_F(CollectionTest, LatestIsTheLastWrittenEvenWhenTheClockGoesBack) {
  EXPECT_EQ(failure([&] { resolve_latest(store_, stop_); }).message(),
            "path does not contain a completed latest backup");
  put("metadata/latest/LATEST-0000", "foreign");
  put("metadata/latest/other", "foreign");
  write_latest(store_, "2026/11/20-223000.00", at("2026-11-20 22:30:00+00"), stop_);
  EXPECT_EQ(resolve_latest(store_, stop_), "2026/11/20-223000.00");
  write_latest(store_, "2026/11/21-223000.00", at("2026-11-20 22:30:00+00"), stop_);
  EXPECT_EQ(resolve_latest(store_, stop_), "2026/11/21-223000.00");
  write_latest(store_, "2026/11/22-223000.00", at("2020-01-01 00:00:00+00"), stop_);
  EXPECT_EQ(resolve_latest(store_, stop_), "2026/11/22-223000.00");
  // Nothing was overwritten, and the newest sorts first.
  EXPECT_EQ(keys("metadata/latest").size(), 5U);
}

TEST_F(CollectionTest, EveryDamageToLatestIsFound) {
  write_latest(store_, kFull, at("2026-11-20 22:30:00+00"), stop_);
  const std::string key = keys("metadata/latest").front();
  const Bytes good = *get_whole(store_, key, 1000, stop_);
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bent = good;
    bent[i] ^= std::byte{1};
    put(key, as_text(bent));
    const Error error = failure([&] { resolve_latest(store_, stop_); });
    EXPECT_EQ(error.message(), "malformed LATEST file") << i;
    EXPECT_THAT(error.detail(), HasSubstr(key));
    put(key, as_text(ByteView(good).first(i)));
    EXPECT_EQ(failure([&] { resolve_latest(store_, stop_); }).state(), sqlstate::kDataCorrupted);
  }
}

TEST_F(CollectionTest, ManifestsAreReadBackAndNeverOverwritten) {
  EXPECT_FALSE(read_manifest(store_, kFull, stop_));
  const proto::Manifest manifest = small_manifest();
  write_manifest(store_, kFull, manifest, stop_);
  EXPECT_EQ(read_manifest(store_, kFull, stop_)->SerializeAsString(), manifest.SerializeAsString());
  EXPECT_EQ(failure([&] { write_manifest(store_, kFull, manifest, stop_); }).message(),
            "2026/11/20-223000.00 already contains a BACKUP_MANIFEST file");
}

TEST_F(CollectionTest, AManifestInAnotherLayersPlaceIsRefused) {
  constexpr std::string_view kOther = "2026/11/21-223000.00";
  write_manifest(store_, kOther, small_manifest(), stop_);
  const Error error = failure([&] { read_manifest(store_, kOther, stop_); });
  EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
  EXPECT_THAT(error.message(), HasSubstr(manifest_key(kOther)));
  EXPECT_THAT(error.detail(), HasSubstr(std::string(kFull)));
}

TEST_F(CollectionTest, EveryDamageToAManifestIsFound) {
  write_manifest(store_, kFull, small_manifest(), stop_);
  const std::string key = manifest_key(kFull);
  const Bytes good = *get_whole(store_, key, 1 << 20, stop_);
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bent = good;
    bent[i] ^= std::byte{1};
    put(key, as_text(bent));
    const Error error = failure([&] { read_manifest(store_, kFull, stop_); });
    EXPECT_THAT(error.message(), HasSubstr(key)) << i;
    put(key, as_text(ByteView(good).first(i)));
    const Error shorter = failure([&] { read_manifest(store_, kFull, stop_); });
    EXPECT_EQ(shorter.state(), sqlstate::kDataCorrupted);
    EXPECT_THAT(shorter.message(), HasSubstr(key));
  }
}

TEST_F(CollectionTest, ANewerManifestIsRefusedByItsVersion) {
  Bytes sealed = seal_envelope(as_bytes("whatever a newer version holds"));
  store<std::uint32_t>(sealed, 8, kFormatVersion + 1);
  put(manifest_key(kFull), as_text(sealed));
  const Error error = failure([&] { read_manifest(store_, kFull, stop_); });
  EXPECT_EQ(error.state(), sqlstate::kFeatureNotSupported);
  EXPECT_THAT(error.message(), HasSubstr("format version 4"));
}

TEST_F(CollectionTest, AManifestThatWouldLeadARestoreAstrayIsRefused) {
  const auto sealed = [&](const proto::Manifest& manifest) {
    put(manifest_key(kFull), as_text(seal_envelope(as_bytes(manifest.SerializeAsString()))));
    return failure([&] { read_manifest(store_, kFull, stop_); }).state();
  };
  for (const char* path : {"../x", "a/../../x", "/etc/passwd", ""}) {
    proto::Manifest manifest = small_manifest();
    manifest.mutable_files(0)->set_path(path);
    EXPECT_EQ(sealed(manifest), sqlstate::kDataCorrupted) << path;
  }
  proto::Manifest external = small_manifest();
  external.mutable_files(0)->set_path("/etc/postgresql/15/main/postgresql.conf");
  external.mutable_files(0)->set_kind(proto::FILE_KIND_EXTERNAL_CONFIG);
  EXPECT_EQ(sealed(external), sqlstate::kSuccess);
  proto::Manifest pack = small_manifest();
  pack.add_packs()->set_size(1ULL << 50);
  EXPECT_EQ(sealed(pack), sqlstate::kDataCorrupted);
}

TEST_F(CollectionTest, AnEnvelopeCannotClaimMoreThanItsBytesCanStandFor) {
  const Bytes plain(1 << 20);
  const Bytes stored = compress_block(plain);
  EXPECT_TRUE(decompress_block(stored, plain.size()));
  EXPECT_FALSE(decompress_block(stored, plain.size() - 1));
  EXPECT_FALSE(decompress_block(stored, kMaxManifestBytes));
  EXPECT_FALSE(decompress_block(ByteView(stored).first(stored.size() - 1), plain.size()));
}

/// The envelope of a manifest with these bytes, as somebody who means harm would write it.
Bytes bomb(std::string_view plain) { return seal_envelope(as_bytes(plain)); }

TEST_F(CollectionTest, AManifestThatUnpacksToFarMoreThanItsBytesIsRefused) {
  const std::string plain(kMaxManifestBytes / 2, '\0');
  const Bytes stored = bomb(plain);
  EXPECT_LT(stored.size(), 64U << 10);
  put(manifest_key(kFull), as_text(stored));
  const Error error = failure([&] { read_manifest(store_, kFull, stop_); });
  EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
  EXPECT_EQ(error.detail(), "Its lengths do not agree.");
}

// Two bytes of a message can stand for an object of a hundred in memory.
TEST_F(CollectionTest, AManifestWithTooManyEntriesIsRefusedBeforeItIsBuilt) {
  std::string entries;
  const std::string empty_file("\xb2\x01\x00", 3);  // field 22, of no bytes
  while (entries.size() + 3 <= kSmallManifestBytes) entries += empty_file;
  put(manifest_key(kFull), as_text(bomb(entries)));
  const Error error = failure([&] { read_manifest(store_, kFull, stop_); });
  EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
  EXPECT_EQ(error.detail(), "It has more entries than a manifest may.");
  // Below another entry, too, and under a field that nobody knows.
  proto::Manifest holder;
  proto::CatalogObject& object = *holder.add_objects();
  for (int i = 0; i < 500; ++i) object.add_grants("");
  const std::string inner = holder.SerializeAsString();
  EXPECT_GE(memory_of_manifest(as_bytes(inner)), 500U * 64);
  EXPECT_GE(memory_of_manifest(as_bytes(inner)), holder.SpaceUsedLong());
  const std::string unknown("\xf2\x7f\x00", 3);
  EXPECT_GE(memory_of_manifest(as_bytes(unknown)), 64U);
}

// A cluster far above what PostgreSQL is run with must still be backed up and read.
TEST_F(CollectionTest, TheManifestOfAMillionFilesIsWithinTheLimits) {
  proto::Manifest manifest = small_manifest();
  manifest.clear_files();
  for (std::uint32_t i = 1; i <= 1000000; ++i) {
    proto::File& file = *manifest.add_files();
    file.set_id(i);
    file.set_path(
        fmt::format("base/{}/{}{}", 16384 + i / 10000, 16384 + i, i % 3 == 0 ? "_fsm" : ""));
    file.set_size(8192ULL * (i % 97));
    file.set_mode(0600);
    file.set_kind(proto::FILE_KIND_RELATION);
    if (i % 3 == 0) file.set_frame_hashes(std::string(16, static_cast<char>(i)));
  }
  for (std::uint32_t i = 1; i <= 300000; ++i) {
    proto::CatalogObject& object = *manifest.add_objects();
    object.set_database("bank");
    object.set_schema("public");
    object.set_name(fmt::format("measurements_{}", i));
    object.set_type("table");
    object.set_oid(16384 + i);
    object.set_owner("bank_owner");
    object.add_grants(fmt::format("GRANT SELECT ON TABLE public.measurements_{} TO reader", i));
    object.set_create_statement(fmt::format(
        "CREATE TABLE public.measurements_{} (\n\tid bigint NOT NULL,\n\tsensor integer "
        "NOT NULL,\n\tmeasured timestamp with time zone DEFAULT now() NOT NULL\n)",
        i));
  }
  const std::string plain = manifest.SerializeAsString();
  const Bytes stored = encode_manifest(manifest, "x");
  RecordProperty("plain_mib", static_cast<int>(plain.size() >> 20));
  RecordProperty("stored_mib", static_cast<int>(stored.size() >> 20));
  RecordProperty("estimated_mib", static_cast<int>(memory_of_manifest(as_bytes(plain)) >> 20));
  RecordProperty("used_mib", static_cast<int>(manifest.SpaceUsedLong() >> 20));
  EXPECT_LT(plain.size(), kMaxManifestBytes / 2);
  EXPECT_LT(plain.size() / stored.size(), kHighestManifestRatio / 10);
  EXPECT_LT(memory_of_manifest(as_bytes(plain)), kMaxManifestMemory / 2);
  EXPECT_GE(memory_of_manifest(as_bytes(plain)), manifest.SpaceUsedLong());
  EXPECT_EQ(decode_manifest(stored, "x").files_size(), 1000000);
}

TEST_F(CollectionTest, OnlyOneJobHasTheLock) {
  take_lock(store_, kFull, 5, stop_);
  take_lock(store_, kFull, 5, stop_);
  const Error error = failure([&] { take_lock(store_, kFull, 6, stop_); });
  EXPECT_EQ(error.message(),
            "2026/11/20-223000.00 already contains a `BACKUP-LOCK` file written by job 5");
  EXPECT_THAT(keys(), ElementsAre("2026/11/20-223000.00/BACKUP-LOCK-5"));
  release_lock(store_, kFull, 5, stop_);
  take_lock(store_, kFull, 6, stop_);
  release_lock(store_, kFull, 6, stop_);
  write_checkpoint(store_, kFull, small_manifest(), 1, stop_);
  EXPECT_THAT(failure([&] { take_lock(store_, kFull, 7, stop_); }).message(),
              HasSubstr("already contains a BACKUP-CHECKPOINT file"));
  remove_checkpoints(store_, kFull, stop_);
  write_manifest(store_, kFull, small_manifest(), stop_);
  EXPECT_THAT(failure([&] { take_lock(store_, kFull, 8, stop_); }).message(),
              HasSubstr("already contains a BACKUP_MANIFEST file"));
}

TEST_F(CollectionTest, TheNewestCheckpointCountsAndOlderOnesGo) {
  EXPECT_FALSE(read_checkpoint(store_, kFull, stop_));
  proto::Manifest partial = small_manifest();
  for (std::uint64_t i = 1; i <= 3; ++i) {
    partial.set_plain_bytes(i);
    write_checkpoint(store_, kFull, partial, i, stop_);
  }
  // A job that lost count.
  partial.set_plain_bytes(4);
  write_checkpoint(store_, kFull, partial, 1, stop_);
  EXPECT_EQ(read_checkpoint(store_, kFull, stop_)->plain_bytes(), 4U);
  EXPECT_EQ(keys().size(), 1U);
  remove_checkpoints(store_, kFull, stop_);
  EXPECT_THAT(keys(), IsEmpty());
}

TEST_F(CollectionTest, ACheckpointIsWrittenWhereNothingMayBeRemoved) {
  storage::FaultStore faults(std::make_unique<storage::MemoryStore>());
  storage::StoreFault fault;
  fault.call = storage::StoreCall::Remove;
  fault.times = 100;
  faults.add(fault);
  proto::Manifest partial = small_manifest();
  for (std::uint64_t i = 1; i <= 3; ++i) {
    partial.set_plain_bytes(i);
    write_checkpoint(faults, kFull, partial, i, stop_);
    EXPECT_EQ(read_checkpoint(faults, kFull, stop_)->plain_bytes(), i);
  }
}

TEST_F(CollectionTest, RemovesOnlyUnfinishedLayers) {
  take_lock(store_, kFull, 5, stop_);
  put(pack_key(kFull, 1), "x");
  write_checkpoint(store_, kFull, small_manifest(), 1, stop_);
  put("2026/11/20-223000.01/data/1.pack", "another layer");
  remove_unfinished(store_, kFull, stop_);
  EXPECT_THAT(keys(), ElementsAre("2026/11/20-223000.01/data/1.pack"));
  write_manifest(store_, kFull, small_manifest(), stop_);
  EXPECT_EQ(failure([&] { remove_unfinished(store_, kFull, stop_); }).state(),
            sqlstate::kObjectNotInPrerequisiteState);
}

/// A put of a manifest is broken off, and takes effect all the same: when the directory is listed.
class LateStore : public storage::MemoryStore {
 public:
  enum class When { BeforeListing, AfterListing };
  explicit LateStore(When when) : when_(when) {}

  storage::PutResult put(const storage::ObjectKey& key, ByteView bytes, storage::PutMode mode,
                         const Stop& stop) override {
    if (!key.ends_with(kManifestName)) return storage::MemoryStore::put(key, bytes, mode, stop);
    late_ = {key, Bytes(bytes.begin(), bytes.end())};
    throw Stopped{StopReason::Cancel};
  }
  void list(const storage::ObjectKey& prefix,
            const std::function<void(const storage::ObjectInfo&)>& visit,
            const Stop& stop) override {
    if (when_ == When::BeforeListing) appear();
    storage::MemoryStore::list(prefix, visit, stop);
    if (when_ == When::AfterListing) appear();
  }

 private:
  void appear() {
    if (!late_) return;
    storage::MemoryStore::put(late_->first, late_->second, storage::PutMode::OnlyIfAbsent,
                              Stop::never());
    late_.reset();
  }

  const When when_;
  std::optional<std::pair<storage::ObjectKey, Bytes>> late_;
};

TEST_F(CollectionTest, NoManifestStaysWithoutItsPacks) {
  for (const auto when : {LateStore::When::BeforeListing, LateStore::When::AfterListing}) {
    LateStore store(when);
    store.put(lock_key(kFull, 5), as_bytes("lock"), storage::PutMode::OnlyIfAbsent, stop_);
    store.put(pack_key(kFull, 1), as_bytes("x"), storage::PutMode::OnlyIfAbsent, stop_);
    EXPECT_THROW(write_manifest(store, kFull, small_manifest(), stop_), Stopped);
    remove_unfinished(store, kFull, stop_);
    std::vector<std::string> left;
    store.list(
        "", [&](const storage::ObjectInfo& info) { left.push_back(info.key); }, stop_);
    EXPECT_THAT(left, IsEmpty());
  }
}

/// Somebody cancels while the manifest is put.
class StoppingStore : public storage::MemoryStore {
 public:
  explicit StoppingStore(StopSource& source) : source_(source) {}
  storage::PutResult put(const storage::ObjectKey& key, ByteView bytes, storage::PutMode mode,
                         const Stop& stop) override {
    source_.request(StopReason::Cancel);
    stop.check();
    return storage::MemoryStore::put(key, bytes, mode, stop);
  }

 private:
  StopSource& source_;
};

TEST_F(CollectionTest, AStopDoesNotBreakOffThePutOfAManifest) {
  StopSource source;
  StoppingStore store(source);
  write_manifest(store, kFull, small_manifest(), source.stop());
  EXPECT_TRUE(source.stop().requested());
  EXPECT_TRUE(read_manifest(store, kFull, stop_));
  // One that came before keeps it from beginning.
  EXPECT_THROW(write_manifest(store, "2026/11/20-223000.01", small_manifest(), source.stop()),
               Stopped);
  EXPECT_FALSE(store.stat(manifest_key("2026/11/20-223000.01"), stop_));
}

TEST_F(CollectionTest, PrintsManifestsAsJson) {
  const std::string json = manifest_to_json(small_manifest());
  EXPECT_THAT(json, HasSubstr("\"format_version\":1"));
  EXPECT_THAT(json, HasSubstr("\"path\":\"base/5/1259\""));
  EXPECT_THAT(json, HasSubstr("\"system_identifier\":\"7000000000000000001\""));
  EXPECT_THAT(json, HasSubstr("\"backup_uuid\":\"75757575757575757575757575757575\""));
}

TEST_F(CollectionTest, KeepsNamesThatAreNotUtf8) {
  const std::string latin1 = "base/5/caf\xe9";
  proto::Manifest manifest = small_manifest();
  manifest.mutable_files(0)->set_path(latin1);
  auto* object = manifest.add_objects();
  object->set_name("caf\xe9");
  object->add_grants("GRANT \xe9");
  write_manifest(store_, kFull, manifest, stop_);
  const auto read = read_manifest(store_, kFull, stop_);
  EXPECT_EQ(read->files(0).path(), latin1);
  EXPECT_EQ(read->objects(0).name(), "caf\xe9");
  EXPECT_THAT(manifest_to_json(*read), HasSubstr("base/5/caf\xef\xbf\xbd"));
}

}  // namespace
}  // namespace holdfast::collection
