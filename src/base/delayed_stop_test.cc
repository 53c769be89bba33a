#include "base/delayed_stop.h"

#include <gtest/gtest.h>

#include <chrono>

namespace holdfast {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

StopReason reason_after_wait(const Stop& stop) {
  try {
    stop.sleep(hours(1));
  } catch (const Stopped& stopped) {
    return stopped.reason;
  }
  ADD_FAILURE() << "slept to the end";
  return StopReason::None;
}

TEST(DelayedStop, IsRequestedWhenItsTimeIsOver) {
  const DelayedStop delayed(milliseconds(1));
  EXPECT_EQ(reason_after_wait(delayed.stop()), StopReason::None);
}

TEST(DelayedStop, FollowsAnotherOneWithItsReason) {
  StopSource source;
  const DelayedStop delayed(source.stop(), milliseconds(1));
  source.request(StopReason::Pause);
  EXPECT_EQ(reason_after_wait(delayed.stop()), StopReason::Pause);
}

TEST(DelayedStop, FollowsOneThatWasRequestedBefore) {
  StopSource source;
  source.request(StopReason::Cancel);
  const DelayedStop delayed(source.stop(), milliseconds(1));
  EXPECT_EQ(reason_after_wait(delayed.stop()), StopReason::Cancel);
}

TEST(DelayedStop, IsNotRequestedBefore) {
  StopSource source;
  source.request(StopReason::Cancel);
  const DelayedStop delayed(source.stop(), hours(1));
  EXPECT_FALSE(delayed.stop().requested());
  const DelayedStop never(Stop::never(), milliseconds(0));
  EXPECT_FALSE(never.stop().requested());
  // Their threads end with them.
}

}  // namespace
}  // namespace holdfast
