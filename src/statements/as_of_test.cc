#include "statements/as_of.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::statements {
namespace {

using Kind = sql::Expression::Kind;

const Time kNow = *parse_timestamp("2026-11-20 12:00:00+00");

Time as_of(Kind kind, const std::string& value) {
  return as_of_time({.kind = kind, .source = value, .value = value}, kNow);
}

TEST(AsOfTest, ReadsEveryFormOfAMoment) {
  const Time moment = *parse_timestamp("2020-01-01 00:00:00+00");
  EXPECT_EQ(as_of(Kind::String, "2020-01-01"), moment);
  EXPECT_EQ(as_of(Kind::String, "2020-01-01 01:00:00+01"), moment);
  EXPECT_EQ(as_of(Kind::String, "1577836800000000000"), moment);
  EXPECT_EQ(as_of(Kind::Integer, "1577836800000000000"), moment);
  EXPECT_EQ(as_of(Kind::Decimal, "1577836800000000000.0000000001"), moment);
  EXPECT_EQ(as_of(Kind::String, "-10s"), kNow - std::chrono::seconds(10));
  EXPECT_EQ(as_of(Kind::String, "-1h30m"), kNow - std::chrono::minutes(90));
  EXPECT_EQ(as_of(Kind::Interval, "-1 day"), kNow - std::chrono::hours(24));
}

TEST(AsOfTest, RefusesWhatIsNoMoment) {
  for (const char* text : {"", "-", "10s", "-10", "-x", "-1 parsec", "yesterday", "2020-13-01",
                           "-99999999999999 days"}) {
    EXPECT_THROW(as_of(Kind::String, text), Error) << text;
  }
  EXPECT_THROW(as_of(Kind::Interval, "1h"), Error);
  EXPECT_THROW(as_of(Kind::Source, "now()"), Error);
}

}  // namespace
}  // namespace holdfast::statements
