#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mutex.h"
#include "jobs/job.h"
#include "jobs/status.h"
#include "state/database.h"

namespace holdfast::jobs {

/// The types of jobs that users see in SHOW JOBS.
inline constexpr std::string_view kBackupType = "BACKUP";
inline constexpr std::string_view kRestoreType = "RESTORE";
inline constexpr std::string_view kWalArchiveType = "WAL ARCHIVE";
inline constexpr std::string_view kDeleteBackupsType = "DELETE BACKUPS";
inline constexpr std::string_view kVerifyType = "VERIFY BACKUP";

/// What a job is created from. Secrets are redacted by the caller, everywhere but in
/// `specification`, which is stored encrypted.
struct NewJob {
  std::string type;
  std::string description = {};
  std::string statement = {};
  std::string user_name = {};
  Bytes specification = {};
  /// The schedule that created it; absent for a statement.
  std::optional<std::int64_t> created_by_schedule = std::nullopt;
};

/// When the job of this id was created, also of another daemon's: the id tells.
Time creation_time(JobId id);

/// A job's row, without its blobs.
struct Job {
  JobId id = 0;
  std::string type;
  std::string description;
  std::string statement;
  std::string user_name;
  JobStatus status = JobStatus::Pending;
  std::string running_status;
  Time created{};
  std::optional<Time> finished;  ///< absent until the job has ended
  Time modified{};
  double fraction_completed = 0;
  /// Why the job reverts, failed, was canceled, or paused by itself; absent otherwise.
  std::optional<Error> error;
  /// Canceled or Failed once the job has begun to revert; absent before.
  std::optional<JobStatus> reverts_to;
  std::optional<std::string> pause_reason;
  /// The node that runs (or ran) it; absent while it has never run.
  std::optional<std::int64_t> coordinator_id;
  std::optional<std::int64_t> created_by_schedule;
  std::int64_t num_runs = 0;
  std::int64_t result_rows = 0;
};

/// Which jobs list() gives: those that meet every condition that is set.
struct JobFilter {
  std::optional<std::vector<JobId>> ids = std::nullopt;
  std::optional<std::string> type = std::nullopt;
  std::optional<std::vector<JobStatus>> statuses = std::nullopt;
  /// Unfinished, or finished at this moment or later.
  std::optional<Time> unfinished_or_since = std::nullopt;
  std::optional<std::vector<std::int64_t>> created_by_schedules = std::nullopt;
  std::optional<std::string> user_name = std::nullopt;
};

/// The rows of all jobs, in the daemon's database. Thread-safe. Knows no threads: the Runner moves
/// jobs along.
class Registry {
 public:
  /// `node_id` (0 to 32767) becomes part of every id, so that ids are unique over nodes.
  Registry(state::Database& database, std::int64_t node_id, const Clock& clock = Clock::system());

  std::int64_t node_id() const { return node_id_; }
  const Clock& clock() const { return clock_; }

  /// Records a job as pending; durable when it returns.
  JobId create(const NewJob& job);

  std::optional<Job> find(JobId id) const;
  /// Throws kUndefinedObject "job with ID … does not exist".
  Job get(JobId id) const;
  /// Unfinished ones first, the newest of them first; then the finished ones, newest end first: the
  /// order of SHOW JOBS.
  std::vector<Job> list(const JobFilter& filter) const;
  /// What went wrong in the job's failed attempts, oldest first; at most the ten newest.
  std::vector<std::string> execution_errors(JobId id) const;

  Bytes specification(JobId id) const;
  std::optional<Bytes> checkpoint(JobId id) const;
  /// Durable when it returns.
  void save_checkpoint(JobId id, ByteView bytes);

  /// Writes a user's request into the row and gives the new status; absent when the job is already
  /// where the request leads. Throws kUndefinedObject for an unknown job and
  /// kObjectNotInPrerequisiteState when the request is refused.
  std::optional<JobStatus> request(JobId id, JobRequest request,
                                   const std::optional<std::string>& reason = std::nullopt);

  /// Moves a job along for the runner, keeping the fields that belong to the status in step:
  /// Running counts the run and names this node; terminal ones set `finished`.
  void move(JobId id, JobStatus status);
  /// To Reverting, on the way to `end` (Failed or Canceled), for `error`.
  void begin_revert(JobId id, JobStatus end, const Error& error);
  /// To Paused for a failure that a user can mend; the error stays in the row until the job is
  /// resumed.
  void pause_for(JobId id, const Error& error);
  void succeed(JobId id, std::int64_t result_rows);
  /// To RevertFailed; `error` goes to the execution errors, the failure that began it stays.
  void fail_revert(JobId id, const Error& error);
  /// Counts one more run of the job on this node.
  void count_run(JobId id);
  void add_execution_error(JobId id, std::string_view text);
  void set_progress(JobId id, double fraction_completed, std::string_view running_status);

  void set_result_bytes(JobId id, std::int64_t bytes);

  void set_owner(JobId id, std::string_view user_name);

  /// Forgets the jobs that ended before `moment`; gives their number.
  std::int64_t remove_finished_before(Time moment);

 private:
  JobId next_id();

  state::Database& database_;
  const std::int64_t node_id_;
  const Clock& clock_;
  Mutex mutex_;
  JobId last_id_ HF_GUARDED_BY(mutex_) = 0;
};

}  // namespace holdfast::jobs
