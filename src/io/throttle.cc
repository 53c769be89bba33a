#include "io/throttle.h"

#include <algorithm>

namespace holdfast::io {

namespace {
constexpr std::chrono::milliseconds kSavedUp{250};
}

Throttle::Clock::duration Throttle::reserve(std::uint64_t bytes, Clock::time_point now) {
  if (bytes_per_second_ == 0) return Clock::duration::zero();
  const MutexLock lock(mutex_);
  free_at_ = std::max(free_at_, now - std::chrono::duration_cast<Clock::duration>(kSavedUp));
  free_at_ += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
      static_cast<double>(bytes) / static_cast<double>(bytes_per_second_)));
  return std::max(free_at_ - now, Clock::duration::zero());
}

void Throttle::take(std::uint64_t bytes, const Stop& stop) {
  stop.check();
  const Clock::duration wait = reserve(bytes, Clock::now());
  if (wait > Clock::duration::zero()) {
    stop.sleep(std::chrono::ceil<std::chrono::milliseconds>(wait));
  }
}

}  // namespace holdfast::io
