#include "schedule/recurrence.h"

#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::schedule {
namespace {

Time at(std::string_view text) { return parse_timestamp(text).value(); }

/// The next `count` moments, as text without "+00" and seconds.
std::vector<std::string> after(std::string_view moment, std::string_view cron,
                               std::string_view zone = "", int count = 1) {
  const Recurrence recurrence = Recurrence::parse(cron, zone);
  std::vector<std::string> moments;
  Time time = at(moment);
  for (int i = 0; i < count; ++i) {
    time = recurrence.next(time);
    moments.push_back(format_timestamptz(time).substr(0, 16));
  }
  return moments;
}

using Moments = std::vector<std::string>;

TEST(Recurrence, IsAlwaysAfterTheMomentItself) {
  EXPECT_EQ(after("2026-11-25 02:30:00", "30 2 * * *"), Moments{"2026-11-26 02:30"});
  EXPECT_EQ(after("2026-11-25 02:29:59.999999", "30 2 * * *"), Moments{"2026-11-25 02:30"});
}

TEST(Recurrence, KnowsTheWords) {
  EXPECT_EQ(after("2026-11-25 10:10", "@hourly"), Moments{"2026-11-25 11:00"});
  EXPECT_EQ(after("2026-11-25 10:10", "@daily"), Moments{"2026-11-26 00:00"});
  EXPECT_EQ(after("2026-11-25 10:10", "@midnight"), Moments{"2026-11-26 00:00"});
  EXPECT_EQ(after("2026-11-25 10:10", "@weekly"), Moments{"2026-11-29 00:00"});
  EXPECT_EQ(after("2026-11-25 10:10", "@Monthly"), Moments{"2026-12-01 00:00"});
  EXPECT_EQ(after("2026-11-25 10:10", "@yearly"), Moments{"2027-01-01 00:00"});
  EXPECT_EQ(after("2026-11-25 10:10", "@annually"), Moments{"2027-01-01 00:00"});
}

TEST(Recurrence, TakesListsRangesStepsAndNames) {
  EXPECT_EQ(
      after("2026-11-25 10:10", "*/20 9-17/4 * * mon,WED-fri", "", 4),
      (Moments{"2026-11-25 13:00", "2026-11-25 13:20", "2026-11-25 13:40", "2026-11-25 17:00"}));
  EXPECT_EQ(after("2026-11-25 10:10", "5/25 0 1 jan-mar *", "", 3),
            (Moments{"2027-01-01 00:05", "2027-01-01 00:30", "2027-01-01 00:55"}));
  EXPECT_EQ(after("2026-11-25 10:10", "0 0 * * 7"), Moments{"2026-11-29 00:00"});
  EXPECT_EQ(after("2026-11-25 10:10", "0 0 * * 5-7", "", 3),
            (Moments{"2026-11-27 00:00", "2026-11-28 00:00", "2026-11-29 00:00"}));
}

TEST(Recurrence, NeedsOnlyOneOfTwoDayFields) {
  EXPECT_EQ(after("2026-11-25 10:10", "0 0 1 * fri", "", 2),
            (Moments{"2026-11-27 00:00", "2026-12-01 00:00"}));
}

TEST(Recurrence, WaitsForLeapDays) {
  EXPECT_EQ(after("2026-11-25", "0 12 29 2 *", "", 3),
            (Moments{"2028-02-29 12:00", "2032-02-29 12:00", "2036-02-29 12:00"}));
  EXPECT_EQ(after("2096-03-01", "0 0 29 2 *"), Moments{"2104-02-29 00:00"});
  EXPECT_EQ(after("2027-01-31", "0 0 31 * *", "", 2),
            (Moments{"2027-03-31 00:00", "2027-05-31 00:00"}));
}

TEST(Recurrence, RunsOnceWhenTheClockIsSetBack) {
  // Berlin, 25 October 2026: 03:00 summer time (01:00 UTC) becomes 02:00.
  EXPECT_EQ(after("2026-10-24 12:00", "30 2 * * *", "Europe/Berlin", 2),
            (Moments{"2026-10-25 00:30", "2026-10-26 01:30"}));
}

TEST(Recurrence, RunsAtTheChangeWhenItsTimeIsSkipped) {
  // Berlin, 29 March 2026: 02:00 (01:00 UTC) becomes 03:00.
  EXPECT_EQ(after("2026-03-28 12:00", "30 2 * * *", "Europe/Berlin", 2),
            (Moments{"2026-03-29 01:00", "2026-03-30 00:30"}));
}

TEST(Recurrence, CountsRealHoursWhenItsHourIsAny) {
  EXPECT_EQ(
      after("2026-10-24 23:30", "0 * * * *", "Europe/Berlin", 4),
      (Moments{"2026-10-25 00:00", "2026-10-25 01:00", "2026-10-25 02:00", "2026-10-25 03:00"}));
  EXPECT_EQ(after("2026-03-29 00:30", "*/30 * * * *", "Europe/Berlin", 3),
            (Moments{"2026-03-29 01:00", "2026-03-29 01:30", "2026-03-29 02:00"}));
}

TEST(Recurrence, CrossesAClockThatIsSetBackOverMidnight) {
  // Havana, 1 November 2026: 01:00 (05:00 UTC) becomes 00:00.
  EXPECT_EQ(after("2026-10-31 12:00", "15 0 * * *", "America/Havana", 2),
            (Moments{"2026-11-01 04:15", "2026-11-02 05:15"}));
}

TEST(Recurrence, MeasuresItsPeriod) {
  const auto period = [](std::string_view cron) {
    return std::chrono::duration_cast<std::chrono::minutes>(
               Recurrence::parse(cron).period(at("2026-11-25 10:10")))
        .count();
  };
  EXPECT_EQ(period("*/15 * * * *"), 15);
  EXPECT_EQ(period("@hourly"), 60);
  EXPECT_EQ(period("@weekly"), 7 * 24 * 60);
}

TEST(Recurrence, RefusesWhatIsNoneOrNeverOccurs) {
  for (const char* text :
       {"", "@never", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *",
        "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *", "a * * * *", "1,,2 * * * *",
        "-1 * * * *", "0 0 30 2 *", "0 0 31 4,6 *"}) {
    EXPECT_THROW(Recurrence::parse(text), Error) << text;
  }
  EXPECT_THROW(Recurrence::parse("@daily", "Europe/Nowhere"), Error);
}

}  // namespace
}  // namespace holdfast::schedule
