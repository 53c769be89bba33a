#include "daemon/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>

#include "jobs/status.h"

namespace holdfast::daemon {

namespace {

constexpr std::array kTypes = {jobs::kBackupType, jobs::kRestoreType, jobs::kWalArchiveType};

struct OfType {
  std::map<jobs::JobStatus, int> by_status;
  double last_success_seconds = 0;  ///< Unix time; 0: none is remembered
};

}  // namespace

std::string metrics_text(const jobs::Registry& registry, Instance& instance) {
  std::map<std::string, OfType, std::less<>> types;
  for (const jobs::Job& job : registry.list({})) {
    OfType& type = types[job.type];
    ++type.by_status[job.status];
    if (job.status == jobs::JobStatus::Succeeded && job.finished) {
      double seconds = std::chrono::duration<double>(job.finished->time_since_epoch()).count();
      type.last_success_seconds = std::max(type.last_success_seconds, seconds);
    }
  }
  std::string text;
  auto out = std::back_inserter(text);
  fmt::format_to(out,
                 "# HELP holdfast_up The daemon works.\n# TYPE holdfast_up gauge\nholdfast_up 1\n");
  fmt::format_to(out,
                 "# HELP holdfast_postgres_up The PostgreSQL instance runs.\n# TYPE "
                 "holdfast_postgres_up gauge\n"
                 "holdfast_postgres_up {}\n",
                 instance.running() ? 1 : 0);
  fmt::format_to(out,
                 "# HELP holdfast_jobs Jobs that are remembered, by type and state.\n# TYPE "
                 "holdfast_jobs gauge\n");
  for (std::string_view name : kTypes) {
    for (jobs::JobStatus status : jobs::kAllJobStatuses) {
      fmt::format_to(out, "holdfast_jobs{{type=\"{}\",state=\"{}\"}} {}\n", name,
                     jobs::name_of(status), types[std::string(name)].by_status[status]);
    }
  }
  fmt::format_to(out,
                 "# HELP holdfast_last_success_timestamp_seconds When a job of this type last "
                 "succeeded; 0: never.\n"
                 "# TYPE holdfast_last_success_timestamp_seconds gauge\n");
  for (std::string_view name : kTypes) {
    fmt::format_to(out, "holdfast_last_success_timestamp_seconds{{type=\"{}\"}} {:.3f}\n", name,
                   types[std::string(name)].last_success_seconds);
  }
  return text;
}

console::HttpPages::Health health(Instance& instance) {
  return {.healthy = true,
          .json = fmt::format("{{\"status\":\"ok\",\"postgres\":\"{}\"}}\n",
                              instance.running() ? "up" : "down")};
}

}  // namespace holdfast::daemon
