#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "io/throttle.h"
#include "storage/object_store.h"

namespace holdfast::storage {

struct RetryPolicy {
  unsigned attempts = 5;  ///< in all
  std::chrono::milliseconds first_delay{100};
  std::chrono::milliseconds longest_delay{5000};
};

/// Repeats calls that failed with Error::retry_is_safe(), waiting a random part of a delay that
/// doubles each time. A put that reports Taken after a failed attempt is compared with what is
/// there: the failed attempt may have stored it.
std::unique_ptr<ObjectStore> with_retry(std::unique_ptr<ObjectStore> store,
                                        const RetryPolicy& policy = {});

/// Logs each call with its key, bytes and time, at debug level.
std::unique_ptr<ObjectStore> with_log(std::unique_ptr<ObjectStore> store);

/// Holds the bytes of puts and gets to the throttle's rate. The throttle must outlive the store.
std::unique_ptr<ObjectStore> with_rate_limit(std::unique_ptr<ObjectStore> store,
                                             io::Throttle& throttle);

}  // namespace holdfast::storage
