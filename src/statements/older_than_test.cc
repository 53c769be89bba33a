#include "statements/older_than.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "statements/testing/fake_session.h"

namespace holdfast::statements {
namespace {

using AgeKind = sql::Expression::Kind;

const Time kToday = *parse_timestamp("2026-11-20 12:00:00+00");

class OlderThanTest : public ::testing::Test {
 protected:
  Time time(AgeKind kind, const std::string& value) {
    return older_than_time({.kind = kind, .source = value, .value = value}, session_, kToday);
  }

  testing::FakeSession session_;
};

TEST_F(OlderThanTest, ReadsAgesWithAndWithoutASign) {
  EXPECT_EQ(time(AgeKind::String, "30 days"), kToday - std::chrono::hours(720));
  EXPECT_EQ(time(AgeKind::String, "-30 days"), kToday - std::chrono::hours(720));
  EXPECT_EQ(time(AgeKind::Interval, "1h30m"), kToday - std::chrono::minutes(90));
}

TEST_F(OlderThanTest, ReadsMoments) {
  EXPECT_EQ(time(AgeKind::String, "2026-11-19 12:00:00+00"), kToday - std::chrono::hours(24));
  EXPECT_EQ(time(AgeKind::Integer, "1577836800000000000"), *parse_timestamp("2020-01-01"));
}

TEST_F(OlderThanTest, AsksPostgresForWhatItDoesNotKnow) {
  session_.answers = {testing::FakeSession::one("2026-10-20 12:00:00.000000"),
                      testing::FakeSession::one("2026-11-01 00:00:00.000000")};
  EXPECT_EQ(time(AgeKind::String, "1 mon"), *parse_timestamp("2026-10-20 12:00:00+00"));
  EXPECT_NE(session_.queries[0].find("'1 mon'::pg_catalog.interval"), std::string::npos);
  EXPECT_EQ(time(AgeKind::Source, "date_trunc('month', now())"), *parse_timestamp("2026-11-01"));
}

TEST_F(OlderThanTest, RefusesWhatIsNoMoment) {
  session_.available = false;
  EXPECT_THROW(time(AgeKind::String, "whenever"), Error);
  EXPECT_THROW(time(AgeKind::Source, "now()"), Error);
  EXPECT_THROW(time(AgeKind::Integer, "-5"), Error);
}

}  // namespace
}  // namespace holdfast::statements
