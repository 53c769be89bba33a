#pragma once

#include <string>

#include "backup/wal_archives.h"
#include "console/http_server.h"
#include "daemon/instance.h"
#include "jobs/registry.h"

namespace holdfast::daemon {

/// GET /metrics: whether PostgreSQL runs, how many jobs are in which state, and how the last
/// finished backups and restores went, in Prometheus' text format.
std::string metrics_text(const jobs::Registry& registry, Instance& instance,
                         const backup::WalArchives& archives);

/// GET /health: healthy as long as the daemon itself works; says whether PostgreSQL runs.
console::HttpPages::Health health(Instance& instance);

}  // namespace holdfast::daemon
