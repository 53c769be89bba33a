#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>

#include "jobs/job.h"

namespace holdfast::jobs {

/// "640 MiB", "1.2 GiB", "17 bytes".
std::string format_bytes(std::uint64_t bytes);
/// "4 s", "2 min 5 s", "1 h 12 min".
std::string format_duration(std::chrono::seconds duration);

/// Makes of the raw figures that a body reports what SHOW JOBS says. Not thread-safe.
class ProgressMeter {
 public:
  using Moment = std::chrono::steady_clock::time_point;

  /// `fraction_completed` is what the job had reached before.
  explicit ProgressMeter(double fraction_completed) : fraction_(fraction_completed) {}

  /// Never goes back, and is below 1 until the job has succeeded.
  double fraction() const { return fraction_; }
  void report(const Progress& progress);
  /// "copying files: 1.2 GiB of 4.1 GiB, 640 MiB/s, 4 s left". The rate is that of the last ten
  /// seconds, as far as text() was called in them; it needs two calls.
  std::string text(Moment now);

 private:
  struct Sample {
    Moment when;
    std::uint64_t bytes;
  };

  double rate(Moment now);

  Progress progress_;
  double fraction_;
  std::deque<Sample> samples_;  // of the current phase, oldest first
};

}  // namespace holdfast::jobs
