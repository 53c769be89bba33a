#pragma once

#include <string>

#include "base/clock.h"
#include "schedule/schedules.h"
#include "state/history.h"

namespace holdfast::daemon {

/// The part of GET /metrics about schedules and collections, in Prometheus' text format: last
/// successes and their ages, durations, bytes, failures by SQLSTATE. Collections are named without
/// the parameters of their URIs: nobody has logged in here.
std::string backup_metrics(const schedule::Schedules& schedules, const state::History& history,
                           Time now);

}  // namespace holdfast::daemon
