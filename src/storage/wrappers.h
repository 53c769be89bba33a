#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "io/throttle.h"
#include "storage/object_store.h"

namespace holdfast::storage {

struct RetryPolicy {
  unsigned attempts = 5;        ///< in all
  unsigned brief_attempts = 3;  ///< the same, where an error says Retry::Briefly
  std::chrono::milliseconds first_delay{100};
  std::chrono::milliseconds longest_delay{5000};
  /// The most that is waited because a server asked for it (Error::retry_after).
  std::chrono::milliseconds longest_asked_delay{60'000};
};

/// Repeats calls that failed with Error::retry_is_safe(), waiting a random part of a delay that
/// doubles each time. A put that reports Taken after a failed attempt is compared with what is
/// there: the failed attempt may have stored it.
std::unique_ptr<ObjectStore> with_retry(std::unique_ptr<ObjectStore> store,
                                        const RetryPolicy& policy = {});

/// Logs each call with its key, bytes and time, at debug level.
std::unique_ptr<ObjectStore> with_log(std::unique_ptr<ObjectStore> store);

struct RateLimits {
  RateLimits(std::uint64_t read_bytes_per_second, std::uint64_t write_bytes_per_second)
      : read(read_bytes_per_second), write(write_bytes_per_second) {}
  io::Throttle read;
  io::Throttle write;
};

/// Holds the bytes of gets and puts to the limits, which many stores may share.
std::unique_ptr<ObjectStore> with_rate_limit(std::unique_ptr<ObjectStore> store,
                                             std::shared_ptr<RateLimits> limits);

}  // namespace holdfast::storage
