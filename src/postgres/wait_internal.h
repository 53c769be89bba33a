#pragma once

#include <chrono>
#include <optional>
#include <stop_token>

#include "base/stop.h"
#include "base/unique_fd.h"

namespace holdfast::postgres {

using Deadline = std::optional<std::chrono::steady_clock::time_point>;

inline Deadline deadline_after(std::chrono::milliseconds timeout) {
  return std::chrono::steady_clock::now() + timeout;
}

/// An eventfd that becomes readable when a stop is requested, for poll().
class StopWake {
 public:
  explicit StopWake(const Stop& stop);
  const Stop& stop() const { return stop_; }
  int fd() const { return event_.get(); }

 private:
  struct Signal {
    int fd;
    void operator()() const noexcept;
  };
  const Stop& stop_;
  UniqueFd event_;
  std::stop_callback<Signal> callback_;
};

/// Waits until one of `events` is there on `fd`, or `other_fd` (-1: none) is readable. False after
/// the deadline. Throws Stopped.
bool wait_for(int fd, short events, const Deadline& deadline, const StopWake& wake,
              int other_fd = -1);

}  // namespace holdfast::postgres
