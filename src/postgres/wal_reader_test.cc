#include "postgres/wal_reader.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "base/error.h"
#include "postgres/crc32c.h"
#include "postgres/testing/memory_wal.h"
#include "postgres/testing/private_instance.h"
#include "postgres/testing/segment_size.h"
#include "postgres/testing/test_files.h"
#include "postgres/wal_scan.h"

namespace holdfast::postgres {
namespace {

using testing::kSmallSegment;

constexpr std::uint64_t kPage = 8192;

struct Golden {
  int major;
  Lsn start;  // of the file's first page
  Lsn end;    // where the server stopped writing
  int records;
};

// Cut from the WAL of the servers that wrote testdata/pg_control_*: the last four pages up to the
// shutdown checkpoint, with TOAST and index inserts across pages and a full-page image.
constexpr Golden kGolden[] = {
    {13, Lsn{0x93C000}, Lsn{0x943BD8}, 43}, {14, Lsn{0xA72000}, Lsn{0xA78D70}, 39},
    {15, Lsn{0x882000}, Lsn{0x8889F0}, 39}, {16, Lsn{0x850000}, Lsn{0x857460}, 41},
    {17, Lsn{0x850000}, Lsn{0x856B88}, 39}, {18, Lsn{0x87A000}, Lsn{0x880AE8}, 39},
};

class WalOfVersion : public ::testing::TestWithParam<Golden> {};

TEST_P(WalOfVersion, IsReadToItsEnd) {
  const Golden& golden = GetParam();
  const Bytes bytes = testing::test_data(fmt::format("wal_{}.bin", golden.major));
  WalReader reader({.major = golden.major,
                    .wal_segment_bytes = kSmallSegment,
                    .start = golden.start,
                    .system_identifier = 0},
                   testing::memory_input(bytes, golden.start, kSmallSegment));
  int records = 0;
  Lsn previous;
  while (const WalRecord* record = reader.next()) {
    ++records;
    if (previous.valid()) {
      EXPECT_EQ(record->previous, previous);
    }
    previous = record->start;
  }
  EXPECT_EQ(reader.end(), WalReader::End::Invalid) << reader.end_reason();
  EXPECT_EQ(reader.position(), golden.end);
  EXPECT_EQ(records, golden.records);
}

TEST_P(WalOfVersion, NeverGivesADamagedRecord) {
  const Golden& golden = GetParam();
  const Bytes original = testing::test_data(fmt::format("wal_{}.bin", golden.major));
  const WalReaderOptions options{.major = golden.major,
                                 .wal_segment_bytes = kSmallSegment,
                                 .start = golden.start,
                                 .system_identifier = 0};
  std::mt19937 random(99);
  const std::uint64_t used = golden.end.value - golden.start.value;
  for (int round = 0; round < 300; ++round) {
    Bytes damaged = original;
    const std::uint64_t at = random() % used;
    damaged[at] ^= static_cast<std::byte>(1U << random() % 8);
    WalReader reader(options, testing::memory_input(damaged, golden.start, kSmallSegment));
    while (const WalRecord* record = reader.next()) {
      const std::uint64_t from = record->start.value - golden.start.value;
      // Past the damage only when it hit padding or an unchecked bit of a page header.
      ASSERT_EQ(crc32c(record->bytes.first(20), crc32c(record->bytes.subspan(24))),
                load<std::uint32_t>(record->bytes, 20))
          << from;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, WalOfVersion, ::testing::ValuesIn(kGolden),
                         [](const auto& test) { return std::to_string(test.param.major); });

// Writes WAL as the server does, for what a real server does not write on demand.
class WalWriter {
 public:
  explicit WalWriter(Lsn start) : start_(start), position_(start.value) {}

  /// A record with `main_bytes` of main data; returns where it starts.
  Lsn add(std::size_t main_bytes, std::uint8_t rmid = 10, std::uint8_t info = 0) {
    Bytes record(24 + 1 + 4);
    record[24] = std::byte{254};
    store(record, 25, static_cast<std::uint32_t>(main_bytes));
    record.resize(record.size() + main_bytes, std::byte{0x5A});
    store<std::uint32_t>(record, 0, static_cast<std::uint32_t>(record.size()));
    store<std::uint64_t>(record, 8, previous_);
    store<std::uint8_t>(record, 16, info);
    store<std::uint8_t>(record, 17, rmid);
    const ByteView view = record;
    store<std::uint32_t>(record, 20, crc32c(view.first(20), crc32c(view.subspan(24))));
    return put(record);
  }
  /// The server crashed in the middle of a record: what follows starts on the next page.
  void lose_rest_of_page_after(std::size_t main_bytes) {
    const auto before = bytes_.size();
    const auto position = position_;
    const auto previous = previous_;
    add(main_bytes);
    const std::uint64_t cut = (position / kPage + 1) * kPage - start_.value;
    ASSERT_LT(before, cut);
    bytes_.resize(cut);
    position_ = start_.value + cut;
    previous_ = previous;
    overwrite_ = true;
  }
  Bytes bytes() const {
    Bytes padded = bytes_;
    padded.resize((padded.size() + kPage - 1) / kPage * kPage);
    return padded;
  }
  Lsn position() const { return Lsn{position_}; }

 private:
  Lsn put(ByteView record) {
    if (position_ % kPage == 0) page_header(0);
    const Lsn at{position_};
    while (true) {
      const std::uint64_t room = kPage - position_ % kPage;
      const auto piece = record.first(std::min<std::uint64_t>(room, record.size()));
      append(piece);
      record = record.subspan(piece.size());
      if (record.empty()) break;
      page_header(static_cast<std::uint32_t>(record.size()));
    }
    while (position_ % 8 != 0) append(Bytes(1));
    previous_ = at.value;
    return at;
  }
  void page_header(std::uint32_t remaining) {
    const bool is_long = position_ % kSmallSegment == 0;
    Bytes header(is_long ? 40 : 24);
    store<std::uint16_t>(header, 0, 0xD110);
    store<std::uint16_t>(header, 2,
                         static_cast<std::uint16_t>((remaining != 0 ? 1 : 0) | (is_long ? 2 : 0) |
                                                    (overwrite_ ? 8 : 0)));
    store<std::uint32_t>(header, 4, 1);
    store<std::uint64_t>(header, 8, position_);
    store<std::uint32_t>(header, 16, remaining);
    if (is_long) {
      store<std::uint64_t>(header, 24, 77);
      store<std::uint32_t>(header, 32, kSmallSegment);
      store<std::uint32_t>(header, 36, kPage);
    }
    overwrite_ = false;
    append(header);
  }
  void append(ByteView more) {
    bytes_.insert(bytes_.end(), more.begin(), more.end());
    position_ += more.size();
  }

  Lsn start_;
  std::uint64_t position_;
  std::uint64_t previous_ = 0;
  bool overwrite_ = false;
  Bytes bytes_;
};

WalReader reader_of(const Bytes& bytes, Lsn start, std::uint64_t system_identifier = 77) {
  return WalReader({.major = 15,
                    .wal_segment_bytes = kSmallSegment,
                    .start = start,
                    .system_identifier = system_identifier},
                   testing::memory_input(bytes, start, kSmallSegment));
}

TEST(WalReader, FollowsRecordsAcrossPagesAndSegments) {
  const Lsn start{3 * kSmallSegment - 4 * kPage};
  WalWriter writer(start);
  std::vector<std::pair<Lsn, std::size_t>> written;
  // Lengths that end exactly at page ends, in headers, and far beyond.
  for (const std::size_t bytes : {10UL, 8100UL, 8192UL, 3UL, 20000UL, 8139UL, 0UL, 100000UL, 1UL}) {
    written.emplace_back(writer.add(bytes), bytes);
  }
  const Bytes bytes = writer.bytes();
  WalReader reader = reader_of(bytes, start);
  for (const auto& [at, main_bytes] : written) {
    const WalRecord* record = reader.next();
    ASSERT_NE(record, nullptr) << reader.end_reason();
    EXPECT_EQ(record->start, at);
    EXPECT_EQ(record->main_data.size(), main_bytes);
  }
  EXPECT_EQ(reader.position(), writer.position());
  EXPECT_EQ(reader.next(), nullptr);
}

TEST(WalReader, PassesOverARecordThatACrashCutOff) {
  const Lsn start{2 * kSmallSegment};
  WalWriter writer(start);
  const Lsn first = writer.add(100);
  writer.lose_rest_of_page_after(30000);
  const Lsn second = writer.add(50);
  const Bytes bytes = writer.bytes();
  WalReader reader = reader_of(bytes, start);
  const WalRecord* record = reader.next();
  ASSERT_NE(record, nullptr) << reader.end_reason();
  EXPECT_EQ(record->start, first);
  record = reader.next();
  ASSERT_NE(record, nullptr) << reader.end_reason();
  EXPECT_EQ(record->start, second);
}

TEST(WalReader, SkipsToTheNextSegmentAfterASwitch) {
  const Lsn start{2 * kSmallSegment};
  WalWriter writer(start);
  writer.add(0, 0, 0x40);
  const Bytes bytes = writer.bytes();
  WalReader reader = reader_of(bytes, start);
  const WalRecord* record = reader.next();
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->end, Lsn{3 * kSmallSegment});
  EXPECT_EQ(reader.next(), nullptr);
  EXPECT_EQ(reader.end(), WalReader::End::NoMoreInput);
}

TEST(WalReader, GoesOnWhenMoreInputHasCome) {
  const Lsn start{2 * kSmallSegment};
  WalWriter writer(start);
  writer.add(100);
  writer.add(20000);
  const Bytes whole = writer.bytes();
  Bytes available(whole.begin(), whole.begin() + kPage);
  WalReader reader = reader_of(available, start);
  ASSERT_NE(reader.next(), nullptr);
  EXPECT_EQ(reader.next(), nullptr);
  EXPECT_EQ(reader.end(), WalReader::End::NoMoreInput);
  available = whole;
  const WalRecord* record = reader.next();
  ASSERT_NE(record, nullptr) << reader.end_reason();
  EXPECT_EQ(record->main_data.size(), 20000U);
}

TEST(WalReader, RefusesWalOfAnotherSystem) {
  const Lsn start{2 * kSmallSegment};
  WalWriter writer(start);
  writer.add(100);
  const Bytes bytes = writer.bytes();
  WalReader reader = reader_of(bytes, start, 78);
  EXPECT_EQ(reader.next(), nullptr);
  EXPECT_EQ(reader.end(), WalReader::End::Invalid);
}

// pg_waldump's lines look like
// rmgr: Heap  len (rec/tot): 59/ 59, tx: 735, lsn: 0/0154, prev 0/0153, desc: …, blkref #0: rel
// 1663/5/1 blk 0 FPW
TEST(WalReader, AgreesWithPgWaldump) {
  testing::PrivateInstance server({.settings = {"wal_keep_size = '1GB'"}});
  server.execute(
      "CREATE TABLE t (id int PRIMARY KEY, v text);"
      "INSERT INTO t SELECT g, repeat('x', g % 900) FROM generate_series(1, 3000) g;"
      "UPDATE t SET v = 'y' WHERE id % 3 = 0; DELETE FROM t WHERE id % 5 = 0;"
      "CREATE INDEX ON t USING gin (to_tsvector('english', v));");
  server.execute("CHECKPOINT");
  server.execute("VACUUM FREEZE t");
  server.execute("CREATE DATABASE other");
  server.execute("SELECT pg_switch_wal()");
  server.execute("INSERT INTO t VALUES (10000, 'z')");
  server.stop();
  const std::string directory = server.data_directory() / "pg_wal";
  const std::string said = server.run(
      {"/bin/sh", "-c",
       fmt::format(
           "{}/pg_waldump -p {} -s 0/1000028 2>/dev/null | md5sum; {}/pg_waldump -p {} -s "
           "0/1000028 2>/dev/null | sed 's/.*len .*tot): *[0-9]*\\/ *\\([0-9]*\\), tx: "
           "*\\([0-9]*\\), lsn: \\([^,]*\\), prev \\([^,]*\\),.*/\\1 \\2 \\3 \\4/' | md5sum",
           server.pg_bin().string(), directory, server.pg_bin().string(), directory)});
  WalReader reader({.major = 15,
                    .wal_segment_bytes = 16U << 20,
                    .start = Lsn{0x1000028},
                    .system_identifier = 0},
                   wal_directory_input(directory, 1, 16U << 20));
  std::string ours;
  const auto padded = [](Lsn lsn) {
    return fmt::format("{:X}/{:08X}", lsn.value >> 32, lsn.value & 0xFFFFFFFF);
  };
  while (const WalRecord* record = reader.next()) {
    ours += fmt::format("{} {} {} {}\n", record->bytes.size(), record->xid, padded(record->start),
                        padded(record->previous));
  }
  EXPECT_GT(std::count(ours.begin(), ours.end(), '\n'), 5000);
  const auto file = server.scratch() / "ours";
  std::ofstream(file) << ours;
  const std::string sum = server.run({"/bin/sh", "-c", "md5sum < " + file.string()});
  EXPECT_NE(said.find(sum.substr(0, 32)), std::string::npos) << said << ours.substr(0, 500);
}

TEST(BackupWalSummary, TellsRewrittenSuspectsFromOthers) {
  testing::PrivateInstance server;
  server.execute(
      "CREATE TABLE kept AS SELECT 1 AS a; CREATE TABLE gone AS SELECT 1 AS a;"
      "CREATE TABLE still AS SELECT 1 AS a; CREATE TABLE again AS SELECT 1 AS a");
  server.execute("CREATE DATABASE dropped");
  server.execute("CHECKPOINT");
  const auto locator = [&](const std::string& table) {
    const auto row = server.execute(
        fmt::format("SELECT (SELECT oid FROM pg_database WHERE datname = 'postgres'), "
                    "pg_relation_filenode('{}')",
                    table));
    return RelationLocator{kDefaultTablespace, static_cast<std::uint32_t>(row.integer(0, 0)),
                           static_cast<std::uint32_t>(row.integer(0, 1))};
  };
  const RelationLocator kept = locator("kept");
  const RelationLocator gone = locator("gone");
  const RelationLocator still = locator("still");
  const RelationLocator again = locator("again");
  const auto in_database = [&](const std::string& name, std::uint32_t tablespace) {
    const auto oid = server.execute("SELECT oid FROM pg_database WHERE datname = '" + name + "'");
    return BlockKey{{tablespace, static_cast<std::uint32_t>(oid.integer(0, 0)), 1259}};
  };
  const BlockKey dropped = in_database("dropped", kDefaultTablespace);
  const auto now = [&] {
    return *parse_lsn(server.execute("SELECT pg_current_wal_insert_lsn()").text(0, 0));
  };
  // The page's image is here, so the change below comes without.
  server.execute("UPDATE again SET a = 2");
  const Lsn start = now();
  server.execute("UPDATE again SET a = 3");
  server.execute("UPDATE kept SET a = 2");
  server.execute("DROP TABLE gone");
  server.execute("CREATE DATABASE copied STRATEGY file_copy");
  server.execute("DROP DATABASE dropped");
  const BlockKey copied = in_database("copied", kDefaultTablespace);
  const BlockKey elsewhere = in_database("copied", 16999);
  const Lsn end = now();
  server.execute("UPDATE still SET a = 2");
  server.stop();
  const WalRange range{.reader = {.major = 15,
                                  .wal_segment_bytes = 16U << 20,
                                  .start = start,
                                  .system_identifier = 0},
                       .end = end};
  const auto input = wal_directory_input(server.data_directory() / "pg_wal", 1, 16U << 20);
  const BackupWalSummary summary = summarize_backup_wal(range, input,
                                                        {{kept, Fork::Main, 0},
                                                         {kept, Fork::Main, 7},
                                                         {kept, Fork::FreeSpaceMap, 2},
                                                         {gone, Fork::Main, 0},
                                                         {still, Fork::Main, 0},
                                                         {again, Fork::Main, 0},
                                                         dropped,
                                                         copied,
                                                         elsewhere},
                                                        Stop::never());
  EXPECT_EQ(summary.rewritten, (std::set<BlockKey>{{kept, Fork::Main, 0},
                                                   {kept, Fork::FreeSpaceMap, 2},
                                                   {gone, Fork::Main, 0},
                                                   dropped,
                                                   copied}));
  ASSERT_TRUE(summary.last_commit_time);
  EXPECT_LT(std::chrono::abs(Clock::system().now() - *summary.last_commit_time),
            std::chrono::minutes(1));
}

TEST(ScanWal, FailsWhenWalIsMissing) {
  const Bytes nothing;
  const WalRange range{.reader = {.major = 15,
                                  .wal_segment_bytes = kSmallSegment,
                                  .start = Lsn{kSmallSegment + 40},
                                  .system_identifier = 0},
                       .end = Lsn{kSmallSegment + 400}};
  EXPECT_THROW(scan_wal(
                   range, testing::memory_input(nothing, Lsn{kSmallSegment}, kSmallSegment),
                   [](const WalRecord&) {}, Stop::never()),
               Error);
}

}  // namespace
}  // namespace holdfast::postgres
