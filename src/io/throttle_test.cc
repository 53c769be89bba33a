#include "io/throttle.h"

#include <gtest/gtest.h>

namespace holdfast::io {
namespace {

using namespace std::chrono_literals;

TEST(Throttle, HoldsAStreamToItsRate) {
  Throttle throttle(1'000'000);
  Throttle::Clock::time_point now{1000s};
  const auto start = now;
  for (int i = 0; i < 100; ++i) now += throttle.reserve(100'000, now);
  // 10 MB at 1 MB/s, less the quarter of a second that was saved up at the start.
  EXPECT_NEAR(std::chrono::duration<double>(now - start).count(), 9.75, 0.001);
}

TEST(Throttle, SavesUpNoMoreThanAQuarterOfASecond) {
  Throttle throttle(1000);
  Throttle::Clock::time_point now{1000s};
  throttle.reserve(1000, now);
  now += 1h;
  EXPECT_EQ(throttle.reserve(250, now), 0s);
  EXPECT_EQ(throttle.reserve(1000, now), 1s);
}

TEST(Throttle, ZeroIsNoLimit) {
  Throttle throttle(0);
  EXPECT_EQ(throttle.reserve(1ULL << 60, Throttle::Clock::time_point{}), 0s);
}

TEST(Throttle, AStopEndsTheWait) {
  Throttle throttle(1);
  StopSource source;
  source.request(StopReason::Pause);
  EXPECT_THROW(throttle.take(1000, source.stop()), Stopped);
}

}  // namespace
}  // namespace holdfast::io
