#include "base/delayed_stop.h"

#include <condition_variable>
#include <mutex>
#include <stop_token>

namespace holdfast {

DelayedStop::DelayedStop(std::chrono::milliseconds after)
    : timer_([this, after](const std::stop_token& ended) { wait(ended, std::nullopt, after); }) {}

DelayedStop::DelayedStop(const Stop& stop, std::chrono::milliseconds after)
    : timer_([this, stop, after](const std::stop_token& ended) { wait(ended, stop, after); }) {}

void DelayedStop::wait(const std::stop_token& ended, const std::optional<Stop>& first,
                       std::chrono::milliseconds after) {
  std::mutex mutex;
  std::condition_variable_any changed;
  if (first) {
    const std::stop_callback wake(first->token(), [&] {
      const std::lock_guard lock(mutex);
      changed.notify_all();
    });
    std::unique_lock lock(mutex);
    if (!changed.wait(lock, ended, [&] { return first->requested(); })) return;
  }
  {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, ended, after, [] { return false; });
  }
  if (!ended.stop_requested()) source_.request(first ? first->reason() : StopReason::None);
}

}  // namespace holdfast
