#include "base/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>

#include "base/error.h"

namespace holdfast {
namespace {

TEST(WorkerPool, RunsEveryWorker) {
  std::atomic<int> sum = 0;
  run_workers(4, Stop::never(),
              [&](std::size_t number, const Stop&) { sum += static_cast<int>(number); });
  EXPECT_EQ(sum, 6);
}

TEST(WorkerPool, AFailureStopsTheOthersAndIsRethrown) {
  EXPECT_THROW(run_workers(2, Stop::never(),
                           [](std::size_t number, const Stop& stop) {
                             if (number == 0) throw Error(sqlstate::kIoError, "broken");
                             stop.sleep(std::chrono::hours(1));
                           }),
               Error);
}

TEST(WorkerPool, AnOuterStopReachesTheWorkersWithItsReason) {
  StopSource source;
  source.request(StopReason::Pause);
  try {
    run_workers(2, source.stop(),
                [](std::size_t, const Stop& stop) { stop.sleep(std::chrono::hours(1)); });
    FAIL() << "was not stopped";
  } catch (const Stopped& stopped) {
    EXPECT_EQ(stopped.reason, StopReason::Pause);
  }
}

}  // namespace
}  // namespace holdfast
