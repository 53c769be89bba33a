#include "base/stop.h"

#include <condition_variable>
#include <mutex>

namespace holdfast {

void Stop::sleep(std::chrono::milliseconds duration) const {
  std::mutex mutex;
  std::condition_variable_any condition;
  std::unique_lock lock(mutex);
  condition.wait_for(lock, token_, duration, [] { return false; });
  check();
}

}  // namespace holdfast
