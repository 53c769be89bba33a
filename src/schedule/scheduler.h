#pragma once

#include <chrono>
#include <condition_variable>
#include <string>
#include <string_view>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/mutex.h"
#include "base/stop.h"
#include "schedule/schedules.h"

namespace holdfast::schedule {

/// What became of a job.
enum class JobEnd { None, Succeeded, Failed, Unknown };

/// Executes the statements of due schedules; the daemon's knows sessions and jobs. Used by the
/// scheduler's thread only.
class Launcher {
 public:
  virtual ~Launcher() = default;
  /// False while nothing can run, because PostgreSQL is down.
  virtual bool ready() = 0;
  /// Executes the statement as its owner, up to the moment at which its job exists. Throws Error,
  /// and then there is no job; Stopped.
  virtual JobId launch(const Schedule& schedule, const Stop& stop) = 0;
  /// The newest job that the schedule has created; 0 when there is none.
  virtual JobId newest_job(ScheduleId id) = 0;
  /// Unknown for a job that nobody remembers; `why` gets the error of one that failed.
  virtual JobEnd end_of(JobId job, std::string& why) = 0;
  /// Begins to delete what the schedule lets go (see Schedule::retention). Throws Error, and then
  /// nothing has begun; Stopped.
  virtual void delete_backups(const Schedule& schedule, const Stop& stop) = 0;
  /// A named place in a run at which tests kill the process; see docs/testing.md.
  virtual void pause_point(std::string_view name, const Stop& stop) = 0;
  /// A run that came to nothing leaves its trace: there is no job that could.
  virtual void record_failure(const Schedule& schedule, const Error& error) = 0;
};

/// Runs schedules when they are due.
///
/// A due time is claimed in the row before the statement runs, and the claim is given up once the
/// job is in the row: a process that dies in between leaves the claim, and the jobs tell whether
/// the run took place. So a due time runs once, whenever the process is killed. Due times that
/// passed while nothing could run are made up for by one run.
class Scheduler {
 public:
  Scheduler(Schedules& schedules, Launcher& launcher, const Clock& clock);
  /// Does what shutdown() does.
  ~Scheduler();

  /// Runs tick() about once a second, and at once after wake(), on a thread of its own.
  void start();
  void shutdown();
  void wake();

  /// Sees what has ended, and runs what is due. Public for tests with a clock of their own.
  void tick(const Stop& stop);

 private:
  void settle(ScheduleId id, const Stop& stop);
  void settle_claim(Schedule& schedule);
  std::string delete_backups(const Schedule& schedule, const Stop& stop);
  void succeeded(Schedules::Edit& edit, Schedule& schedule);
  void failed(Schedule& schedule, std::string_view why);
  void run_if_due(ScheduleId id, const Stop& stop);
  std::optional<Schedule> claim_if_due(ScheduleId id);

  Schedules& schedules_;
  Launcher& launcher_;
  const Clock& clock_;

  Mutex mutex_;
  std::condition_variable_any changed_;
  bool woken_ HF_GUARDED_BY(mutex_) = false;
  StopSource stop_;
  std::jthread thread_;
};

}  // namespace holdfast::schedule
