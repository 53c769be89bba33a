#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/stop.h"
#include "jobs/job.h"
#include "jobs/pause_points.h"
#include "jobs/registry.h"

namespace holdfast::jobs {

/// What the runner does with a job that meets a full disk.
enum class OnDiskFull {
  Fail,  ///< revert and fail, as for every error
  Pause  ///< pause, so that RESUME JOB goes on after somebody has made room
};

/// Whether a job of a kind takes one of the slots that RunnerOptions::concurrency counts.
enum class Slot {
  Takes,
  None  ///< a service that runs for as long as it is wanted; it must not keep others waiting
};

/// One type of job. `make` may be called many times, from any thread; a body serves one run.
struct JobKind {
  std::function<std::unique_ptr<JobBody>()> make;
  OnDiskFull on_disk_full = OnDiskFull::Fail;
  Slot slot = Slot::Takes;
};

struct RunnerOptions {
  /// Jobs that work at the same time; further ones wait in the order of their creation. Reverts do
  /// not count.
  std::size_t concurrency = 4;
  /// See PausePoints; empty for none.
  std::string pause_points = {};
  /// A job that fails with a retryable error is tried this many times without progress in between.
  int attempts = 5;
  /// Wait after the first failed attempt; doubled after each, up to thirty times this.
  std::chrono::milliseconds first_retry_after{1000};
  /// How often progress reaches the row, and waiting sessions.
  std::chrono::milliseconds progress_interval{1000};
  /// Ended jobs are forgotten after this long (CockroachDB: jobs.retention_time, 14 days).
  std::chrono::hours retention{24 * 14};
};

/// How a job ended.
struct Outcome {
  JobStatus status = JobStatus::Succeeded;
  double fraction_completed = 1;
  std::int64_t rows = 0;
};

/// What a waiting session wants to hear; called on the waiting thread. Either may be empty.
struct WaitListener {
  std::function<void(std::string_view message)> notice;
  /// The row's running_status whenever it changes: "copying files: 1.2 GiB of 4.1 GiB, …".
  std::function<void(double fraction_completed, std::string_view running_status)> progress;
};

/// Runs jobs, one thread each. Thread-safe.
///
/// Life: construct, register_kind() for each type, start(), …, shutdown().
class Runner {
 public:
  /// Throws kConfigFileError for pause points that cannot be understood.
  Runner(Registry& registry, RunnerOptions options);
  /// Does what shutdown() does.
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  void register_kind(std::string type, JobKind kind);

  /// Takes over the jobs that an earlier process left: running and reverting ones go on,
  /// pause-requested ones become paused, cancel-requested ones revert. Then runs jobs.
  void start();
  /// Stops the threads with reason Shutdown and waits for them. The rows stay as they are, for the
  /// next start.
  void shutdown();

  /// Records the job and lets it run as soon as a slot is free. The row is durable when it returns.
  JobId submit(const NewJob& job);

  /// A user's requests: the row first, then the thread. Take effect within two seconds. Errors as
  /// Registry::request(). Give false when the job was already there.
  bool pause(JobId id, const std::optional<std::string>& reason = std::nullopt);
  bool resume(JobId id);
  bool cancel(JobId id);

  /// A pause point beside the jobs: it may kill the process or stall until its file exists; what
  /// other actions do concerns a job. Throws Stopped.
  void pause_point(std::string_view name, const Stop& stop);

  /// Waits until the job has ended and gives the outcome of a job that succeeded. Throws the job's
  /// own error when it failed; kQueryCanceled when it was canceled; kObjectNotInPrerequisiteState
  /// when it was paused meanwhile. When `stop` is requested with reason Cancel (the client
  /// cancelled its statement), the job is canceled too; with any other reason (the connection is
  /// lost, the daemon stops) it goes on. Throws Stopped in both cases.
  Outcome wait(JobId id, const Stop& stop, const WaitListener& listener = {});

  /// Waits until none of the jobs is unfinished (a paused one is unfinished) or `deadline` has
  /// passed; false in the latter case. The jobs are left alone. Throws Stopped.
  bool wait_all(const std::vector<JobId>& ids, std::chrono::steady_clock::time_point deadline,
                const Stop& stop);

 private:
  enum class Queue { Forward, Back };
  class Run;
  class Notices;

  bool request(JobId id, JobRequest what, const std::optional<std::string>& reason);
  void cancel_unless_ending(JobId id);
  void deliver(JobId id, JobStatus status);
  void enqueue(JobId id, Queue queue);
  void drop_from_queue(JobId id);
  bool takes_slot(std::string_view type) const;
  std::shared_ptr<Run> active_run(JobId id);
  std::shared_ptr<Notices> notices_of(JobId id);

  void supervise(const Stop& stop);
  void start_ready();
  std::optional<JobId> next_ready();
  void start_or_give_up(JobId id);
  void start_run(JobId id);
  void run_ended(JobId id);
  void write_progress();
  void join_ended();
  void forget_old_jobs();
  void wake();

  Registry& registry_;
  const RunnerOptions options_;
  PausePoints pause_points_;
  std::map<std::string, JobKind, std::less<>> kinds_;  // fixed before start()

  // Held over a status change in the row together with its delivery to the thread, or with the
  // start or end of the thread: the row and the thread never disagree for anybody else. The one
  // lock that is held while the store is written.
  Mutex status_mutex_;

  // Taken after status_mutex_ where both are.
  Mutex mutex_;
  std::condition_variable_any changed_;
  bool started_ HF_GUARDED_BY(mutex_) = false;
  bool shutting_down_ HF_GUARDED_BY(mutex_) = false;
  std::uint64_t version_ HF_GUARDED_BY(mutex_) = 0;
  std::deque<JobId> queue_ HF_GUARDED_BY(mutex_);
  std::deque<JobId> services_ HF_GUARDED_BY(mutex_);  // that take no slot
  std::deque<JobId> reverts_ HF_GUARDED_BY(mutex_);
  std::map<JobId, std::shared_ptr<Run>> runs_ HF_GUARDED_BY(mutex_);
  // Last owner: the supervisor, which joins the thread.
  std::vector<std::shared_ptr<Run>> ended_ HF_GUARDED_BY(mutex_);
  // The newest jobs' notices; a session that waits for one shares it.
  std::map<JobId, std::shared_ptr<Notices>> notices_ HF_GUARDED_BY(mutex_);

  StopSource shutdown_;
  std::jthread supervisor_;
};

}  // namespace holdfast::jobs
