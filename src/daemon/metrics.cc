#include "daemon/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>

#include "jobs/status.h"

namespace holdfast::daemon {

namespace {

constexpr std::array kTypes = {jobs::kBackupType, jobs::kRestoreType, jobs::kVerifyType,
                               jobs::kWalArchiveType, jobs::kDeleteBackupsType};

struct OfType {
  std::map<jobs::JobStatus, int> by_status;
  double last_success_seconds = 0;  ///< Unix time; 0: none is remembered
};

}  // namespace

std::string metrics_text(const jobs::Registry& registry, Instance& instance,
                         const backup::WalArchives& archives) {
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
  const std::vector<backup::WalArchives::Listed> listed = archives.list();
  // Also without a board entry, which an archive that ended has not.
  fmt::format_to(
      out,
      "# HELP holdfast_wal_archive_failed Whether the archive gave up, and none has taken "
      "its place.\n# TYPE holdfast_wal_archive_failed gauge\n");
  for (const auto& archive : listed) {
    const bool failed = archive.job.status == jobs::JobStatus::Failed ||
                        archive.job.status == jobs::JobStatus::RevertFailed;
    fmt::format_to(out, "holdfast_wal_archive_failed{{slot=\"{}\"}} {}\n", archive.slot,
                   failed ? 1 : 0);
  }
  const auto gauge = [&](std::string_view name, std::string_view help, const auto& value) {
    fmt::format_to(out, "# HELP {0} {1}\n# TYPE {0} gauge\n", name, help);
    for (const auto& archive : listed) {
      // The slot names the collection: a URI may be long, and hold secrets.
      if (archive.state) {
        fmt::format_to(out, "{}{{slot=\"{}\"}} {}\n", name, archive.slot, value(archive));
      }
    }
  };
  const Time now = Clock::system().now();
  using Archive = backup::WalArchives::Listed;
  gauge("holdfast_wal_archive_lag_bytes", "WAL that is not in the archive yet.",
        [](const Archive& archive) { return archive.state->lag_bytes; });
  gauge("holdfast_wal_archive_lag_seconds", "How old the oldest of it is.",
        [&](const Archive& archive) {
          const backup::WalArchiveState& state = *archive.state;
          if (state.lag_bytes == 0 && state.waiting_for.empty()) return 0.0;
          return state.archived_time
                     ? std::chrono::duration<double>(now - *state.archived_time).count()
                     : 0.0;
        });
  gauge("holdfast_wal_archive_protected_bytes", "WAL that PostgreSQL keeps for the archive.",
        [](const Archive& archive) { return archive.state->protected_bytes; });
  gauge("holdfast_wal_archive_protected_age_seconds", "Since when it keeps the oldest of it.",
        [&](const Archive& archive) {
          return archive.protected_since
                     ? std::chrono::duration<double>(now - *archive.protected_since).count()
                     : 0.0;
        });
  return text;
}

console::HttpPages::Health health(Instance& instance) {
  return {.healthy = true,
          .json = fmt::format("{{\"status\":\"ok\",\"postgres\":\"{}\"}}\n",
                              instance.running() ? "up" : "down")};
}

}  // namespace holdfast::daemon
