#pragma once

#include <chrono>
#include <optional>
#include <thread>

#include "base/stop.h"

namespace holdfast {

/// A Stop for a step that must not be broken off at once, and must end all the same: it is
/// requested some time later. Ends its thread when it goes.
class DelayedStop {
 public:
  /// Requested `after` from now, without a reason.
  explicit DelayedStop(std::chrono::milliseconds after);
  /// Requested `after` from when `stop` is requested, with its reason; never while that is not.
  DelayedStop(const Stop& stop, std::chrono::milliseconds after);

  /// Lives as long as this.
  const Stop& stop() const { return stop_; }

 private:
  void wait(const std::stop_token& ended, const std::optional<Stop>& first,
            std::chrono::milliseconds after);

  StopSource source_;
  const Stop stop_ = source_.stop();
  std::jthread timer_;
};

}  // namespace holdfast
