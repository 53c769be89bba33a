#pragma once

#include <cstddef>
#include <functional>

#include "base/stop.h"

namespace holdfast {

/// Runs `work(worker_number, stop)` on `workers` threads at once and returns when all have
/// returned. Work that a worker draws from a shared counter or queue is thereby spread over all
/// cores. When one throws, the others are stopped (their Stop is requested with reason None when it
/// is this, or the outer reason when `stop` was requested) and the first exception is rethrown here
/// after the join; a Stopped from the outer `stop` is rethrown only if nothing failed.
void run_workers(std::size_t workers, const Stop& stop,
                 const std::function<void(std::size_t, const Stop&)>& work);

}  // namespace holdfast
