#include "base/task_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "base/error.h"

namespace holdfast {
namespace {

TEST(TaskQueue, TakesTheHeaviestFirstAndOfTheseTheOldest) {
  TaskQueue queue;
  std::vector<int> order;
  for (const auto& [weight, name] : {std::pair(1, 1), {5, 2}, {3, 3}, {5, 4}}) {
    queue.add(static_cast<std::uint64_t>(weight),
              [&order, name = name](std::size_t, const Stop&) { order.push_back(name); });
  }
  queue.run(1, Stop::never());
  EXPECT_EQ(order, (std::vector<int>{2, 4, 3, 1}));
}

TEST(TaskQueue, RunsWhatTasksAddAlsoWhileNoneIsReady) {
  TaskQueue queue;
  std::atomic<int> leaves = 0;
  queue.add(1, [&](std::size_t, const Stop& stop) {
    stop.sleep(std::chrono::milliseconds(20));  // the other workers wait
    for (int i = 0; i < 3; ++i) {
      queue.add(1, [&](std::size_t, const Stop&) {
        queue.add(2, [&](std::size_t, const Stop&) { ++leaves; });
      });
    }
  });
  queue.run(3, Stop::never());
  EXPECT_EQ(leaves, 3);
}

TEST(TaskQueue, EndsAtOnceWhenThereIsNothing) {
  TaskQueue queue;
  queue.run(2, Stop::never());
}

TEST(TaskQueue, AFailureStopsThoseWhoWaitAndIsRethrown) {
  TaskQueue queue;
  queue.add(1, [](std::size_t, const Stop& stop) {
    stop.sleep(std::chrono::milliseconds(20));
    throw Error(sqlstate::kIoError, "broken");
  });
  EXPECT_THROW(queue.run(3, Stop::never()), Error);
}

TEST(TaskQueue, AnOuterStopReachesTasksAndThoseWhoWait) {
  StopSource source;
  TaskQueue queue;
  queue.add(1, [&](std::size_t, const Stop& stop) {
    source.request(StopReason::Cancel);
    stop.sleep(std::chrono::hours(1));
  });
  try {
    queue.run(2, source.stop());
    FAIL() << "was not stopped";
  } catch (const Stopped& stopped) {
    EXPECT_EQ(stopped.reason, StopReason::Cancel);
  }
}

}  // namespace
}  // namespace holdfast
