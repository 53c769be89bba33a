#include "base/stop.h"

#include <gtest/gtest.h>

#include <thread>

namespace holdfast {
namespace {

TEST(Stop, FirstReasonWins) {
  StopSource source;
  source.request(StopReason::Pause);
  source.request(StopReason::Cancel);
  EXPECT_EQ(source.stop().reason(), StopReason::Pause);
}

TEST(Stop, SleepEndsAsSoonAsAStopIsRequested) {
  StopSource source;
  std::jthread other([&] { source.request(StopReason::Shutdown); });
  try {
    source.stop().sleep(std::chrono::hours(1));
    FAIL() << "slept to the end";
  } catch (const Stopped& stopped) {
    EXPECT_EQ(stopped.reason, StopReason::Shutdown);
  }
}

TEST(Stop, NeverIsNeverRequested) {
  EXPECT_FALSE(Stop::never().requested());
  EXPECT_NO_THROW(Stop::never().check());
}

}  // namespace
}  // namespace holdfast
