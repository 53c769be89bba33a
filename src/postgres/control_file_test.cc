#include "postgres/control_file.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "postgres/testing/private_instance.h"
#include "postgres/testing/test_files.h"

namespace holdfast::postgres {
namespace {

struct GoldenControl {
  int major;
  std::uint64_t system_identifier;
  Lsn redo;
  std::uint32_t catalog_version;
};
// Written by servers 13.23, 14.23, 15.20, 16.14, 17.10 and 18.4 at a shutdown; identifier and
// position as the server told them itself.
constexpr GoldenControl kGoldenControls[] = {
    {13, 7710437148826458645, Lsn{0x943B60}, 202007201},
    {14, 7710437152440113722, Lsn{0xA78CF8}, 202107181},
    {15, 7710437157376666207, Lsn{0x888978}, 202209061},
    {16, 7710437161268349571, Lsn{0x8573E8}, 202307071},
    {17, 7710437164505307815, Lsn{0x856B10}, 202406281},
    {18, 7710437167884491467, Lsn{0x880A70}, 202506291},
};

class ControlFileOfVersion : public ::testing::TestWithParam<GoldenControl> {};

TEST_P(ControlFileOfVersion, IsRead) {
  const GoldenControl& golden = GetParam();
  const Bytes bytes = testing::test_data(fmt::format("pg_control_{}.bin", golden.major));
  const ControlFile control = parse_control_file(bytes, "pg_control");
  EXPECT_EQ(control.major, golden.major);
  EXPECT_EQ(control.system_identifier, golden.system_identifier);
  EXPECT_EQ(control.state, ClusterState::ShutDown);
  EXPECT_EQ(control.redo, golden.redo);
  EXPECT_EQ(control.checkpoint, golden.redo);
  EXPECT_EQ(control.catalog_version, golden.catalog_version);
  EXPECT_EQ(control.timeline, 1U);
  EXPECT_EQ(control.wal_level, WalLevel::Logical);
  EXPECT_EQ(control.max_connections, 100);
  EXPECT_EQ(control.max_prepared_transactions, 5);
  EXPECT_EQ(control.max_locks_per_transaction, 64);
  EXPECT_EQ(control.wal_segment_bytes, 1U << 20);
  EXPECT_EQ(control.data_checksum_version, 1U);
  EXPECT_TRUE(control.full_page_writes);
}

TEST_P(ControlFileOfVersion, IsRefusedWithAFlippedBit) {
  const Bytes bytes = testing::test_data(fmt::format("pg_control_{}.bin", GetParam().major));
  for (const std::size_t at : {0U, 17U, 48U, 200U, 260U, 289U}) {
    Bytes damaged = bytes;
    damaged[at] ^= std::byte{0x10};
    try {
      parse_control_file(damaged, "/data/global/pg_control");
      FAIL() << at;
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kDataCorrupted) << at;
      EXPECT_NE(error.message().find("/data/global/pg_control"), std::string::npos);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ControlFileOfVersion, ::testing::ValuesIn(kGoldenControls),
                         [](const auto& test) { return std::to_string(test.param.major); });

TEST(ControlFile, RefusesAnEmptyFile) { EXPECT_THROW(parse_control_file({}, "pg_control"), Error); }

TEST(ControlFile, AgreesWithPgControldata) {
  testing::PrivateInstance server;
  server.stop();
  const ControlFile control = read_control_file(server.data_directory());
  const std::string said =
      server.run({server.pg_bin() / "pg_controldata", server.data_directory()});
  const auto expect_line = [&](std::string_view name, const std::string& value) {
    const auto at = said.find(std::string(name) + ":");
    ASSERT_NE(at, std::string::npos) << name;
    const std::string line = said.substr(at, said.find('\n', at) - at);
    EXPECT_TRUE(line.ends_with(" " + value)) << line << " / " << value;
  };
  expect_line("Database system identifier", std::to_string(control.system_identifier));
  expect_line("Database cluster state", std::string(to_string(control.state)));
  expect_line("Latest checkpoint location", to_string(control.checkpoint));
  expect_line("Latest checkpoint's REDO location", to_string(control.redo));
  expect_line("Latest checkpoint's TimeLineID", std::to_string(control.timeline));
  expect_line("Latest checkpoint's NextXID",
              fmt::format("{}:{}", control.next_xid >> 32, control.next_xid & 0xFFFFFFFF));
  expect_line("Minimum recovery ending location", to_string(control.min_recovery_point));
  expect_line("max_connections setting", std::to_string(control.max_connections));
  expect_line("max_wal_senders setting", std::to_string(control.max_wal_senders));
  expect_line("max_worker_processes setting", std::to_string(control.max_worker_processes));
  expect_line("Bytes per WAL segment", std::to_string(control.wal_segment_bytes));
  expect_line("Data page checksum version", std::to_string(control.data_checksum_version));
}

}  // namespace
}  // namespace holdfast::postgres
