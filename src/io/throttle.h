#pragma once

#include <chrono>
#include <cstdint>

#include "base/mutex.h"
#include "base/stop.h"

namespace holdfast::io {

/// Holds all threads that share it to a number of bytes per second. Unused time of up to a quarter
/// of a second is made good, so that short pauses do not lower the rate.
class Throttle {
 public:
  using Clock = std::chrono::steady_clock;

  /// Zero is no limit.
  explicit Throttle(std::uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}

  /// Waits until `bytes` more may pass. Throws Stopped.
  void take(std::uint64_t bytes, const Stop& stop);

  /// The same without waiting: books `bytes` at `now` and says how long the caller must wait.
  Clock::duration reserve(std::uint64_t bytes, Clock::time_point now);

 private:
  const std::uint64_t bytes_per_second_;
  Mutex mutex_;
  /// When everything booked so far has passed.
  Clock::time_point free_at_ HF_GUARDED_BY(mutex_){};
};

}  // namespace holdfast::io
