#include "postgres/lsn.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "postgres/testing/segment_size.h"
#include "postgres/versions.h"

namespace holdfast::postgres {
namespace {

using testing::kDefaultSegment;

TEST(Lsn, PrintsAndParsesAsPostgresDoes) {
  EXPECT_EQ(to_string(Lsn{0x16B374D848}), "16/B374D848");
  EXPECT_EQ(parse_lsn("16/B374D848"), Lsn{0x16B374D848});
  EXPECT_EQ(parse_lsn("0/0"), Lsn{0});
  EXPECT_EQ(parse_lsn("FFFFFFFF/FFFFFFFF"), Lsn{~0ULL});
}

TEST(Lsn, RefusesWhatIsNone) {
  for (const auto* text : {"", "/", "1/", "/1", "1", "x/1", "1/x", "123456789/0", "0/123456789",
                           "1/2/3", " 1/2", "-1/2"}) {
    EXPECT_FALSE(parse_lsn(text)) << text;
  }
}

TEST(WalSegmentName, FollowsTheSegmentSize) {
  EXPECT_EQ(wal_segment_name(1, 0xAFE, kDefaultSegment), "000000010000000A000000FE");
  EXPECT_EQ(wal_segment_name(2, 0xAFE, 1U << 20), "000000020000000000000AFE");
  EXPECT_EQ(wal_segment_name(1, 5, 1U << 30), "000000010000000100000001");
  for (const std::uint64_t bytes : {1ULL << 20, 16ULL << 20, 1ULL << 30}) {
    for (const std::uint64_t segment : {0ULL, 1ULL, 255ULL, 4096ULL, 1234567ULL}) {
      EXPECT_EQ(parse_wal_segment_name(wal_segment_name(7, segment, bytes), bytes),
                (WalSegment{7, segment}));
    }
  }
}

TEST(WalSegmentName, RejectsWalNameWithBadParts) {
  for (const auto* name : {"", "000000010000000A000000F", "00000001000000000000010G",
                           "00000001000000000000000a", "000000010000000000000100",
                           "000000000000000000000001", "000000010000000000000001.partial"}) {
    EXPECT_FALSE(parse_wal_segment_name(name, kDefaultSegment)) << name;
  }
}

TEST(TimelineHistory, ReadsWhatPostgresWrites) {
  EXPECT_EQ(timeline_history_name(0x1A), "0000001A.history");
  EXPECT_EQ(parse_timeline_history_name("0000001A.history"), 0x1AU);
  EXPECT_FALSE(parse_timeline_history_name("0000001A.histor"));
  const auto entries = parse_timeline_history(
      "1\t0/50000A0\tno recovery target specified\n\n# a comment\n2\t0/6000000\tbefore "
      "2000-01-01\n",
      "00000003.history");
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].timeline, 1U);
  EXPECT_EQ(entries[0].switch_point, Lsn{0x50000A0});
  EXPECT_EQ(entries[0].reason, "no recovery target specified");
  EXPECT_EQ(entries[1].timeline, 2U);
}

TEST(TimelineHistory, RefusesDisorder) {
  for (const auto* text : {"x\t0/1\n", "1\n", "2\t0/1\tr\n1\t0/2\tr\n", "1\tnowhere\tr\n"}) {
    try {
      parse_timeline_history(text, "00000003.history");
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
      EXPECT_NE(error.message().find("00000003.history"), std::string::npos);
    }
  }
}

TEST(Versions, RefusesUnknownMajorsClearly) {
  EXPECT_EQ(version_facts(15).wal_page_magic, 0xD110);
  for (const int major : {0, 9, 12, 19}) {
    try {
      version_facts(major);
      FAIL() << major;
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kFeatureNotSupported);
    }
  }
  EXPECT_EQ(find_version_by_wal_magic(0xD118)->major, 18);
  EXPECT_EQ(find_version_by_wal_magic(0xD117), nullptr);
}

}  // namespace
}  // namespace holdfast::postgres
