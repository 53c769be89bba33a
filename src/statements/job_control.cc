#include "statements/job_control.h"

#include <fmt/format.h>

#include <string>

#include "base/error.h"
#include "base/log.h"

namespace holdfast::statements {

namespace {

using jobs::JobRequest;
using jobs::JobStatus;
using sql::JobControl;

JobRequest request_of(JobControl::Action action) {
  switch (action) {
    case JobControl::Action::Pause:
      return JobRequest::Pause;
    case JobControl::Action::Resume:
      return JobRequest::Resume;
    case JobControl::Action::Cancel:
      break;
  }
  return JobRequest::Cancel;
}

std::string_view word_for(JobControl::Action action) {
  switch (action) {
    case JobControl::Action::Pause:
      return "PAUSE";
    case JobControl::Action::Resume:
      return "RESUME";
    case JobControl::Action::Cancel:
      break;
  }
  return "CANCEL";
}

/// The jobs that a statement about a schedule or a type acts on.
std::vector<JobStatus> statuses_for(JobRequest request) {
  switch (request) {
    case JobRequest::Pause:
      return {JobStatus::Pending, JobStatus::Running, JobStatus::Reverting};
    case JobRequest::Resume:
      return {JobStatus::Paused};
    case JobRequest::Cancel:
      break;
  }
  return {JobStatus::Pending, JobStatus::Running, JobStatus::Paused};
}

/// Throws kFeatureNotSupported for the types of jobs that PostgreSQL has no use for.
std::string_view supported_type(JobControl::Type type) {
  switch (type) {
    case JobControl::Type::Backup:
      return jobs::kBackupType;
    case JobControl::Type::Restore:
      return jobs::kRestoreType;
    case JobControl::Type::Changefeed:
      throw Error(sqlstate::kFeatureNotSupported, "CHANGEFEED jobs are not supported");
    case JobControl::Type::Import:
      break;
  }
  throw Error(sqlstate::kFeatureNotSupported, "IMPORT jobs are not supported");
}

std::string tag_for(const JobControl& statement, std::size_t count) {
  const std::string_view word = word_for(statement.action);
  switch (statement.target) {
    case JobControl::Target::Job:
    case JobControl::Target::Jobs:
      return fmt::format("{} JOBS {}", word, count);
    case JobControl::Target::ForSchedule:
    case JobControl::Target::ForSchedules:
      return fmt::format("{} JOBS FOR SCHEDULES {}", word, count);
    case JobControl::Target::AllOfType:
      break;
  }
  return fmt::format("{} ALL {} JOBS {}", word, supported_type(statement.type), count);
}

/// A paused WAL archive would have PostgreSQL keep WAL without bound: nobody would look at the
/// limit.
bool may_pause(const jobs::Job& job) { return job.type != jobs::kWalArchiveType; }

bool can_follow(JobRequest request, const jobs::Job& job) {
  if (request == JobRequest::Pause && !may_pause(job)) return false;
  return request != JobRequest::Cancel || job.status != JobStatus::Paused || !job.reverts_to;
}

}  // namespace

void JobControlStatement::run(const JobControl& statement, sql::SessionContext& session,
                              sql::RowSink& sink, const Stop& stop) {
  const bool by_name =
      statement.target == JobControl::Target::Job || statement.target == JobControl::Target::Jobs;
  const JobRights rights = JobRights::of(session);
  const std::vector<jobs::JobId> ids = by_name ? named_jobs(statement, session, rights, stop)
                                               : matching_jobs(statement, session, rights, stop);
  std::optional<std::string> reason;
  if (statement.reason) reason = statement.reason->value;
  for (const jobs::JobId id : ids) {
    switch (request_of(statement.action)) {
      case JobRequest::Pause:
        runner_.pause(id, reason);
        break;
      case JobRequest::Resume:
        runner_.resume(id);
        break;
      case JobRequest::Cancel:
        runner_.cancel(id);
        break;
    }
    log::info("{} JOB {}, user={}", word_for(statement.action), id, rights.user);
  }
  sink.complete(tag_for(statement, ids.size()));
}

/// Checks all of them before the first is touched.
std::vector<jobs::JobId> JobControlStatement::named_jobs(const JobControl& statement,
                                                         sql::SessionContext& session,
                                                         const JobRights& rights,
                                                         const Stop& stop) const {
  std::vector<jobs::JobId> ids;
  if (statement.target == JobControl::Target::Jobs) {
    ids = resolver_.evaluate(statement.select.value(), session, stop);
  } else if (const auto id = resolver_.evaluate(statement.id.value(), session)) {
    ids = {*id};
  }
  for (const jobs::JobId id : ids) {
    const jobs::Job job = registry_.get(id);
    rights.require(job);
    if (statement.action == JobControl::Action::Pause && !may_pause(job)) {
      throw Error(sqlstate::kFeatureNotSupported,
                  fmt::format("cannot pause WAL archive job {}", id))
          .detail(
              "PostgreSQL would keep all WAL from then on, without the bound of "
              "--wal-keep-limit.")
          .hint("End the archive with DROP WAL ARCHIVE.");
    }
    jobs::status_after(
        request_of(statement.action),
        {.id = id, .status = job.status, .was_reverting = job.reverts_to.has_value()});
  }
  return ids;
}

std::vector<jobs::JobId> JobControlStatement::matching_jobs(const JobControl& statement,
                                                            sql::SessionContext& session,
                                                            const JobRights& rights,
                                                            const Stop& stop) const {
  const JobRequest request = request_of(statement.action);
  jobs::JobFilter filter{.statuses = statuses_for(request)};
  rights.restrict_to_own(filter);
  if (statement.target == JobControl::Target::AllOfType) {
    filter.type = supported_type(statement.type);
  } else if (statement.target == JobControl::Target::ForSchedules) {
    filter.created_by_schedules = resolver_.evaluate(statement.select.value(), session, stop);
  } else if (const auto id = resolver_.evaluate(statement.id.value(), session)) {
    filter.created_by_schedules = {*id};
  } else {
    return {};
  }
  std::vector<jobs::JobId> ids;
  for (const jobs::Job& job : registry_.list(filter)) {
    if (can_follow(request, job)) ids.push_back(job.id);
  }
  return ids;
}

}  // namespace holdfast::statements
