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

TEST(AsOfTest, OnlyTheEndsOfLayersCanBeRestored) {
  std::vector<collection::proto::Manifest> layers(3);
  for (int i = 0; i < 3; ++i) {
    layers[static_cast<std::size_t>(i)].set_subdirectory(std::to_string(i));
    layers[static_cast<std::size_t>(i)].set_end_time_us((i + 1) * 1'000'000);
  }
  const auto at = [](int us) { return Time(std::chrono::microseconds(us)); };
  EXPECT_EQ(layer_ending_at(layers, at(1'000'000)), "0");
  EXPECT_EQ(layer_ending_at(layers, at(3'000'000)), "2");
  const auto message = [&](int us) -> std::string {
    try {
      return layer_ending_at(layers, at(us));
    } catch (const Error& error) {
      return error.message();
    }
  };
  EXPECT_NE(message(1'500'000).find("1970-01-01 00:00:01+00 or 1970-01-01 00:00:02+00"),
            std::string::npos);
  std::swap(layers[0], layers[1]);  // the first was resumed after the second had ended
  EXPECT_NE(message(2'500'000).find("1970-01-01 00:00:02+00 or 1970-01-01 00:00:03+00"),
            std::string::npos);
  EXPECT_NE(message(500).find("nearest backup time is 1970-01-01 00:00:01+00"), std::string::npos);
  EXPECT_NE(message(9'000'000).find("nearest backup time is 1970-01-01 00:00:03+00"),
            std::string::npos);
}

}  // namespace
}  // namespace holdfast::statements
