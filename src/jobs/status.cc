#include "jobs/status.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/error.h"

namespace holdfast::jobs {

namespace {

struct Name {
  JobStatus status;
  std::string_view name;
};

constexpr Name kNames[] = {{JobStatus::Pending, "pending"},
                           {JobStatus::Running, "running"},
                           {JobStatus::PauseRequested, "pause-requested"},
                           {JobStatus::Paused, "paused"},
                           {JobStatus::CancelRequested, "cancel-requested"},
                           {JobStatus::Reverting, "reverting"},
                           {JobStatus::Canceled, "canceled"},
                           {JobStatus::Failed, "failed"},
                           {JobStatus::Succeeded, "succeeded"},
                           {JobStatus::RevertFailed, "revert-failed"}};

struct Move {
  JobStatus from;
  JobStatus to;
};

// A request that comes while the thread does its last steps may be too late: the job then ends the
// way it would have. A job that reverts can be asked to pause, so pause-requested has the ends of
// both.
constexpr Move kMoves[] = {{JobStatus::Pending, JobStatus::Running},
                           {JobStatus::Running, JobStatus::Succeeded},
                           {JobStatus::Running, JobStatus::Reverting},
                           {JobStatus::Running, JobStatus::Paused},
                           {JobStatus::PauseRequested, JobStatus::Paused},
                           {JobStatus::PauseRequested, JobStatus::Succeeded},
                           {JobStatus::PauseRequested, JobStatus::Reverting},
                           {JobStatus::PauseRequested, JobStatus::Canceled},
                           {JobStatus::PauseRequested, JobStatus::Failed},
                           {JobStatus::PauseRequested, JobStatus::RevertFailed},
                           {JobStatus::CancelRequested, JobStatus::Succeeded},
                           {JobStatus::CancelRequested, JobStatus::Reverting},
                           {JobStatus::Reverting, JobStatus::Canceled},
                           {JobStatus::Reverting, JobStatus::Failed},
                           {JobStatus::Reverting, JobStatus::RevertFailed}};

[[noreturn]] void refuse(const RequestSubject& job, std::string_view what) {
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("job with state {} cannot be {}", name_of(job.status), what))
      .detail(fmt::format("The job is {}.", job.id));
}

std::optional<JobStatus> after_pause(const RequestSubject& job) {
  switch (job.status) {
    case JobStatus::Pending:
    case JobStatus::Running:
    case JobStatus::Reverting:
      return JobStatus::PauseRequested;
    case JobStatus::PauseRequested:
    case JobStatus::Paused:
      return std::nullopt;
    default:
      refuse(job, "requested to be paused");
  }
}

std::optional<JobStatus> after_resume(const RequestSubject& job) {
  switch (job.status) {
    case JobStatus::Paused:
      return job.was_reverting ? JobStatus::Reverting : JobStatus::Running;
    case JobStatus::Running:
    case JobStatus::Reverting:
      return std::nullopt;
    default:
      refuse(job, "resumed");
  }
}

std::optional<JobStatus> after_cancel(const RequestSubject& job) {
  switch (job.status) {
    case JobStatus::Paused:
      if (job.was_reverting) {
        throw Error(sqlstate::kObjectNotInPrerequisiteState,
                    fmt::format("job {} is paused and has non-nil FinalResumeError hence cannot be "
                                "canceled and should be reverted",
                                job.id))
            .hint(
                fmt::format("RESUME JOB {} lets it finish removing what it left behind.", job.id));
      }
      return JobStatus::CancelRequested;
    case JobStatus::Pending:
    case JobStatus::Running:
      return JobStatus::CancelRequested;
    case JobStatus::CancelRequested:
    case JobStatus::Canceled:
      return std::nullopt;
    default:
      refuse(job, "requested to be canceled");
  }
}

}  // namespace

std::string_view name_of(JobStatus status) {
  const auto* found = std::ranges::find(kNames, status, &Name::status);
  HF_ASSERT(found != std::end(kNames));
  return found->name;
}

std::optional<JobStatus> job_status_named(std::string_view name) {
  const auto* found = std::ranges::find(kNames, name, &Name::name);
  if (found == std::end(kNames)) return std::nullopt;
  return found->status;
}

bool is_terminal(JobStatus status) {
  switch (status) {
    case JobStatus::Canceled:
    case JobStatus::Failed:
    case JobStatus::Succeeded:
    case JobStatus::RevertFailed:
      return true;
    default:
      return false;
  }
}

std::optional<JobStatus> status_after(JobRequest request, const RequestSubject& job) {
  switch (request) {
    case JobRequest::Pause:
      return after_pause(job);
    case JobRequest::Resume:
      return after_resume(job);
    case JobRequest::Cancel:
      return after_cancel(job);
  }
  return std::nullopt;
}

bool may_move(JobStatus from, JobStatus to) {
  return std::ranges::any_of(kMoves,
                             [&](const Move& move) { return move.from == from && move.to == to; });
}

}  // namespace holdfast::jobs
