#pragma once

#include <chrono>
#include <string_view>

#include "base/log.h"

namespace holdfast::restore {

/// Tells in the log how long each step of a job took. For one thread.
class StepLog {
 public:
  /// `step` went from the end of the one before, or from the beginning, until now.
  void finished(std::string_view step) {
    const Clock::time_point now = Clock::now();
    log::info("{}: seconds={:.2f}", step, std::chrono::duration<double>(now - since_).count());
    since_ = now;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point since_ = Clock::now();
};

}  // namespace holdfast::restore
