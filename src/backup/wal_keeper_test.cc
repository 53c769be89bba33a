#include "backup/wal_keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "base/error.h"
#include "postgres/control_file.h"
#include "postgres/testing/private_instance.h"
#include "postgres/testing/segment_size.h"
#include "storage/fault_store.h"
#include "storage/memory_store.h"

namespace holdfast::backup {
namespace {

using postgres::testing::kSmallSegment;
using ::testing::HasSubstr;

constexpr std::uint64_t kLimit = 4 * kSmallSegment;
constexpr int kWritten = 10;

/// A server whose WAL is kept from start() on.
class WalKeeperTest : public ::testing::Test {
 protected:
  WalKeeperTest() { std::filesystem::create_directory(spool_); }

  void start(std::uint64_t limit) {
    const auto control = postgres::read_control_file(server_.data_directory());
    keeper_ = std::make_unique<WalKeeper>(
        WalKeeper::Options{.store = &store_,
                           .connect = {.conninfo = server_.conninfo()},
                           .slot = "holdfast_test",
                           .spool = spool_,
                           .system_identifier = control.system_identifier,
                           .segment_bytes = kSmallSegment,
                           .compression = {},
                           .spool_limit = limit,
                           .before_put = [](const collection::WalSegmentId&) {}},
        stop_);
    system_identifier_ = control.system_identifier;
    keeper_->start(position("pg_current_wal_flush_lsn()"), 1, stop_);
  }
  postgres::Lsn position(const std::string& function) {
    return *postgres::parse_lsn(server_.execute("SELECT " + function).text(0, 0));
  }
  /// Gives its end.
  postgres::Lsn write_segment() {
    server_.execute("SELECT pg_logical_emit_message(false, 'test', 'x')");
    return position("pg_switch_wal()");
  }
  std::size_t archived() {
    return collection::list_wal_segments(store_, system_identifier_, 1, kSmallSegment, stop_)
        .size();
  }

  postgres::testing::PrivateInstance server_{
      {.initdb_arguments = {"--wal-segsize=1"}, .settings = {"autovacuum = off"}}};
  storage::FaultStore store_{std::make_unique<storage::MemoryStore>()};
  const std::filesystem::path spool_ = server_.scratch() / "spool";
  const Stop stop_ = Stop::never();
  std::unique_ptr<WalKeeper> keeper_;
  std::uint64_t system_identifier_ = 0;
};

TEST_F(WalKeeperTest, TheSpoolDoesNotGrowPastItsLimitWhenTheStorageHangs) {
  store_.add({.call = storage::StoreCall::Put,
              .kind = storage::FaultKind::Stall,
              .key_pattern = "wal/*",
              .times = 1000});
  start(kLimit);
  postgres::Lsn end;
  for (int i = 0; i < kWritten; ++i) end = write_segment();
  try {
    keeper_->finish(end, stop_);
    FAIL() << "the spool took it all";
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), SqlState("53400"));
    EXPECT_THAT(error.message(), HasSubstr("--wal-keep-limit (4.0 MiB)"));
  }
  keeper_.reset();
  std::uintmax_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(spool_)) bytes += file.file_size();
  // The one too many is noticed when it is whole.
  EXPECT_LE(bytes, kLimit + kSmallSegment);
}

TEST_F(WalKeeperTest, WhatTheStorageTakesDoesNotCount) {
  start(1);  // the least
  postgres::Lsn end;
  for (int i = 1; i <= kWritten; ++i) {
    end = write_segment();
    while (archived() < static_cast<std::size_t>(i)) {
      keeper_->check();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  keeper_->finish(end, stop_);
  EXPECT_GE(keeper_->segments().size(), static_cast<std::size_t>(kWritten));
}

}  // namespace
}  // namespace holdfast::backup
