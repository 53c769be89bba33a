#include "restore/scoped_wal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "base/error.h"
#include "collection/wal_archive.h"
#include "postgres/testing/wal_builder.h"
#include "restore/testing/restore_lab.h"

namespace holdfast::restore {
namespace {

using postgres::Lsn;
using postgres::testing::WalBuilder;

constexpr std::uint64_t kSegmentBytes = 1U << 20;
constexpr std::uint64_t kFirstSegment = 3;

/// Commits over two segments and a bit, the last two of which are `commit_` and `last_`; and a
/// manifest that lists them.
class ScopedWal : public ::testing::Test {
 protected:
  ScopedWal() {
    auto& instance = *manifest_.mutable_instance();
    instance.set_server_version_num(150000);
    instance.set_wal_segment_bytes(kSegmentBytes);
    instance.set_system_identifier(7);
    layout_.root = lab_.path("data");
    std::filesystem::create_directories(layout_.root + "/pg_wal");
    manifest_.mutable_start()->set_position(commit().value);
    while (builder_.position().value < (kFirstSegment + 2) * kSegmentBytes) commit();
    commit_ = commit();
    last_ = commit();
    manifest_.mutable_stop()->set_position(builder_.position().value);
    manifest_.mutable_stop()->set_timeline(1);
    for (std::uint64_t segment = 0; segment < 3; ++segment) {
      manifest_.add_wal()->set_timeline(1);
      manifest_.mutable_wal(static_cast<int>(segment))->set_segment(kFirstSegment + segment);
      store(segment);
    }
  }

  Lsn commit() {
    return builder_.add({.resource_manager = 1, .main_data = Bytes(2000), .xid = ++xid_});
  }

  void store(std::uint64_t segment) {
    const Bytes all = builder_.whole_segments();
    collection::put_wal_segment(
        lab_.store(),
        {.system_identifier = 7,
         .timeline = 1,
         .segment = kFirstSegment + segment,
         .segment_bytes = kSegmentBytes},
        [&](std::uint64_t offset, MutableByteView into) {
          if (segment * kSegmentBytes >= all.size()) return;
          std::ranges::copy(ByteView(all).subspan(segment * kSegmentBytes + offset, into.size()),
                            into.begin());
        },
        {}, Stop::never());
  }

  proto::RecoveryTarget target_at(Lsn record) const {
    proto::RecoveryTarget target;
    target.set_timeline(1);
    target.set_record(record.value);
    target.set_end(manifest_.stop().position());
    return target;
  }

  void restore(const proto::RecoveryTarget* target) {
    restore_scoped_wal(manifest_, target, layout_, postgres::WalScope{}, lab_.store(),
                       io::FileSystem::real(), Stop::never());
  }

  void expect_corrupted(const proto::RecoveryTarget* target, std::string_view message) {
    try {
      restore(target);
      ADD_FAILURE() << "expected: " << message;
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
      EXPECT_NE(error.message().find(message), std::string::npos) << error.message();
    }
  }

  testing::RestoreLab lab_;
  WalBuilder builder_{15, Lsn{kFirstSegment * kSegmentBytes}, kSegmentBytes};
  std::uint32_t xid_ = 700;
  Lsn commit_;
  Lsn last_;
  collection::proto::Manifest manifest_;
  Layout layout_;
};

TEST_F(ScopedWal, LeadsToTheRecordOfTheTarget) {
  const auto target = target_at(last_);
  restore(&target);
  EXPECT_TRUE(std::filesystem::exists(layout_.root + "/pg_wal/000000010000000000000003"));
}

/// A commit between the two would be replayed, and with it rows from behind the moment.
TEST_F(ScopedWal, RefusesATargetThatEndsBehindItsRecord) {
  const auto target = target_at(commit_);
  expect_corrupted(&target, "the WAL does not lead to the record at " + to_string(commit_));
}

TEST_F(ScopedWal, RefusesAListOfSegmentsWithAGap) {
  manifest_.mutable_wal()->DeleteSubrange(1, 1);
  expect_corrupted(nullptr, "no segment begins at 0/400000");
}

}  // namespace
}  // namespace holdfast::restore
