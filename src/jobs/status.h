#pragma once

#include <optional>
#include <string_view>

#include "jobs/job.h"

namespace holdfast::jobs {

/// Where a job stands. The names in SHOW JOBS are those of CockroachDB: "pause-requested".
enum class JobStatus {
  Pending,          ///< waits for a free slot
  Running,          ///< works, or will as soon as a slot is free
  PauseRequested,   ///< will be Paused once its thread has noticed
  Paused,           ///< waits for RESUME JOB
  CancelRequested,  ///< will be Reverting once its thread has noticed
  Reverting,        ///< removes what it left behind, after a failure or a cancel
  Canceled,
  Failed,
  Succeeded,
  RevertFailed  ///< could not remove what it left behind
};

inline constexpr JobStatus kAllJobStatuses[] = {
    JobStatus::Pending,     JobStatus::Running,         JobStatus::PauseRequested,
    JobStatus::Paused,      JobStatus::CancelRequested, JobStatus::Reverting,
    JobStatus::Canceled,    JobStatus::Failed,          JobStatus::Succeeded,
    JobStatus::RevertFailed};

std::string_view name_of(JobStatus status);
/// Absent for any other word.
std::optional<JobStatus> job_status_named(std::string_view name);

/// The job has ended for good.
bool is_terminal(JobStatus status);

/// What a user may ask of a job.
enum class JobRequest { Pause, Resume, Cancel };

/// A job as far as a request cares.
struct RequestSubject {
  JobId id = 0;
  JobStatus status = JobStatus::Pending;
  /// It had begun to revert (after a failure or a cancel) when it was paused.
  bool was_reverting = false;
};

/// The status that `request` leads to at once; absent when it changes nothing. Throws
/// kObjectNotInPrerequisiteState when the request is refused in this status.
std::optional<JobStatus> status_after(JobRequest request, const RequestSubject& job);

/// Whether the runner itself may take a job from one status to another.
bool may_move(JobStatus from, JobStatus to);

}  // namespace holdfast::jobs
