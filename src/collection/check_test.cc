#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/testing/names.h"
#include "collection/wal_archive.h"
#include "storage/fault_store.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using storage::PutMode;
using testing::ElementsAre;
using testing::IsEmpty;

/// A layer of two packs and one WAL segment of 1 MiB.
class CheckTest : public ::testing::Test {
 protected:
  CheckTest() {
    manifest_.set_subdirectory(std::string(kFull));
    manifest_.set_backup_uuid(std::string(16, 'u'));
    manifest_.mutable_instance()->set_system_identifier(42);
    manifest_.mutable_instance()->set_wal_segment_bytes(wal_.segment_bytes);
    BackupUuid uuid{};
    uuid.fill(std::byte{'u'});
    PackBuilder builder(1 << 16);
    FrameEncoder encoder(Compression::parse("none"));
    for (std::uint32_t number = 1; number <= 2; ++number) {
      builder.reset(number, uuid);
      for (std::uint32_t frame = 0; frame < 3; ++frame) {
        auto& file = *manifest_.add_files();
        file.set_id(number * 10 + frame);
        file.set_path(std::to_string(file.id()));
        file.set_size(500);
        builder.add(encoder, file.id(), 0, Bytes(500, std::byte{7}));
      }
      store_summary(builder.finish(), *manifest_.add_packs());
      store_.put(pack_key(kFull, number), builder.bytes(), PutMode::OnlyIfAbsent, stop_);
    }
    const auto read = [](std::uint64_t offset, MutableByteView into) {
      std::fill(into.begin(), into.end(), static_cast<std::byte>(1 + offset));
    };
    auto* segment = manifest_.add_wal();
    segment->set_timeline(1);
    segment->set_segment(9);
    segment->set_stored_bytes(put_wal_segment(store_, wal_, read, Compression{}, stop_));
  }
  void damage(const std::string& key, std::size_t at) {
    Bytes bytes = *get_whole(store_, key, 1 << 20, stop_);
    bytes.at(at) ^= std::byte{1};
    store_.put(key, bytes, PutMode::Overwrite, stop_);
  }
  static std::vector<std::string> keys_of(const std::vector<FileProblem>& problems) {
    std::vector<std::string> keys;
    for (const FileProblem& problem : problems) keys.push_back(problem.key);
    return keys;
  }
  std::vector<std::string> check() { return keys_of(check_files(store_, {&manifest_, 1}, stop_)); }
  std::vector<std::string> verify() {
    return keys_of(verify_data(store_, {&manifest_, 1}, 2, stop_));
  }

  const WalSegmentId wal_{
      .system_identifier = 42, .timeline = 1, .segment = 9, .segment_bytes = 1 << 20};
  const std::string wal_key_ = wal_key(42, 1, 9, 1 << 20);
  storage::MemoryStore store_;
  Stop stop_ = Stop::never();
  proto::Manifest manifest_;
};

TEST_F(CheckTest, FindsNothingInAnIntactLayer) {
  EXPECT_THAT(check(), IsEmpty());
  EXPECT_THAT(verify(), IsEmpty());
}

TEST_F(CheckTest, FindsMissingObjects) {
  store_.remove(pack_key(kFull, 2), stop_);
  store_.remove(wal_key_, stop_);
  EXPECT_THAT(check(), ElementsAre(pack_key(kFull, 2), wal_key_));
}

TEST_F(CheckTest, FindsWrongSizes) {
  for (const std::string& key : {pack_key(kFull, 1), wal_key_}) {
    Bytes bytes = *get_whole(store_, key, 1 << 20, stop_);
    bytes.push_back(std::byte{0});
    store_.put(key, bytes, PutMode::Overwrite, stop_);
  }
  EXPECT_THAT(check(), ElementsAre(pack_key(kFull, 1), wal_key_));
}

TEST_F(CheckTest, FindsADamagedIndexWithoutReadingFrames) {
  damage(pack_key(kFull, 1), manifest_.packs(0).index_offset() + 3);
  EXPECT_THAT(check(), ElementsAre(pack_key(kFull, 1)));
}

TEST_F(CheckTest, OnlyVerifyFindsADamagedFrameOrHeader) {
  damage(pack_key(kFull, 1), kPackHeaderBytes + 700);
  damage(pack_key(kFull, 2), 13);
  damage(wal_key_, 20);
  EXPECT_THAT(check(), IsEmpty());
  EXPECT_THAT(verify(), ElementsAre(pack_key(kFull, 1), pack_key(kFull, 2), wal_key_));
}

TEST_F(CheckTest, ADamagedFrameThatWasSupersededDoesNotMatter) {
  damage(pack_key(kFull, 1), kPackHeaderBytes + 700);
  manifest_.mutable_packs(0)->add_superseded(1);
  manifest_.mutable_files()->DeleteSubrange(1, 1);
  EXPECT_THAT(verify(), IsEmpty());
}

TEST_F(CheckTest, FindsAFileOfWhichAFrameIsMissing) {
  manifest_.mutable_packs(0)->add_superseded(1);
  EXPECT_THAT(check(), ElementsAre(manifest_key(kFull)));
  manifest_.mutable_packs(0)->clear_superseded();
  manifest_.mutable_files(0)->set_size(kFrameBytes + 500);
  EXPECT_THAT(check(), ElementsAre(manifest_key(kFull)));
  manifest_.mutable_files(0)->set_size(~std::uint64_t{0});
  EXPECT_THAT(verify(), ElementsAre(manifest_key(kFull)));
}

TEST_F(CheckTest, FindsAFrameThatIsHeldTwiceOrByNoFile) {
  manifest_.mutable_files(4)->set_size(501);
  EXPECT_THAT(check(), ElementsAre(pack_key(kFull, 2)));
  manifest_.mutable_files()->DeleteSubrange(4, 1);
  EXPECT_THAT(check(), ElementsAre(pack_key(kFull, 2)));
  manifest_.mutable_files()->DeleteSubrange(3, 2);
  manifest_.mutable_packs()->DeleteSubrange(1, 1);
  EXPECT_THAT(check(), IsEmpty());
  *manifest_.add_packs() = manifest_.packs(0);
  EXPECT_THAT(check(), ElementsAre(pack_key(kFull, 1)));
}

TEST_F(CheckTest, FindsWalThatTheManifestLacks) {
  const std::uint64_t first = wal_.segment * wal_.segment_bytes;
  manifest_.mutable_start()->set_position(first + 40);
  manifest_.mutable_stop()->set_position(first + wal_.segment_bytes);
  EXPECT_THAT(check(), IsEmpty());
  manifest_.mutable_stop()->set_position(first + wal_.segment_bytes + 40);
  EXPECT_THAT(check(), ElementsAre(manifest_key(kFull)));
}

TEST_F(CheckTest, AFailureOfTheStorageIsNoFinding) {
  auto memory = std::make_unique<storage::MemoryStore>();
  storage::FaultStore faults(std::move(memory));
  storage::StoreFault fault;
  fault.call = storage::StoreCall::Stat;
  faults.add(fault);
  EXPECT_THROW(check_files(faults, {&manifest_, 1}, stop_), Error);
}

}  // namespace
}  // namespace holdfast::collection
