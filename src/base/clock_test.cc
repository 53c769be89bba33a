#include "base/clock.h"

#include <gtest/gtest.h>

namespace holdfast {
namespace {

TEST(Clock, PrintsTimestamptzAsPostgresDoes) {
  Time time = std::chrono::sys_days(std::chrono::year(2026) / 2 / 3) +
              std::chrono::microseconds(3'723'120'000);
  EXPECT_EQ(format_timestamptz(time), "2026-02-03 01:02:03.12+00");
}

TEST(Clock, ReadsBackWhatItPrints) {
  Time time =
      std::chrono::sys_days(std::chrono::year(1969) / 12 / 31) + std::chrono::microseconds(1);
  EXPECT_EQ(parse_timestamp(format_timestamptz(time)), time);
}

TEST(Clock, TakesZoneAndDefaultsToUtc) {
  EXPECT_EQ(parse_timestamp("2026-01-01 00:00:00+05:30"), parse_timestamp("2025-12-31T18:30:00Z"));
  EXPECT_EQ(parse_timestamp("2026-01-01"), parse_timestamp("2026-01-01 00:00+00"));
}

TEST(Clock, RejectsWhatIsNoMoment) {
  for (const char* text :
       {"", "2026", "2026-13-01", "2026-02-30", "2026-01-01 24:00", "2026-01-01 10:00:00.",
        "2026-01-01 10:00:00+99", "2026-01-01 10:00:00x"}) {
    EXPECT_EQ(parse_timestamp(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace holdfast
