#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "state/database.h"

namespace holdfast::schedule {

using ScheduleId = std::int64_t;
using JobId = std::int64_t;

/// What happens at a due time while an earlier run is not finished.
enum class OnPreviousRunning { Start, Skip, Wait };
/// What follows a run that failed.
enum class OnExecutionFailure { Retry, Reschedule, Pause };

std::string_view name_of(OnPreviousRunning value);   ///< start, skip, wait
std::string_view name_of(OnExecutionFailure value);  ///< retry, reschedule, pause
std::optional<OnPreviousRunning> on_previous_running_named(std::string_view name);
std::optional<OnExecutionFailure> on_execution_failure_named(std::string_view name);

/// A statement that runs again and again. A backup that is a full now and then and incremental in
/// between is two schedules, partners of each other.
struct Schedule {
  ScheduleId id = 0;
  std::string label;
  std::string owner;     ///< the PostgreSQL role that the statement runs as
  std::string database;  ///< where it runs
  Time created{};
  std::string statement;  ///< with its secrets: encrypted in the file
  bool incremental = false;
  std::string recurrence;
  std::string time_zone;  ///< empty: UTC
  OnPreviousRunning on_previous_running = OnPreviousRunning::Wait;
  OnExecutionFailure on_execution_failure = OnExecutionFailure::Reschedule;
  bool updates_last_backup_metric = false;
  bool ignore_existing_backups = false;
  /// What is deleted from the collection after each success: chains older than this ("30 days";
  /// empty: whatever their age) of which there are this many newer ones (0: any number). Both at
  /// their default: nothing.
  std::string retention = {};
  std::int64_t keep_fulls = 0;
  std::optional<ScheduleId> partner = std::nullopt;
  /// On a full: its next success lets the paused partner run.
  bool unpause_partner = false;

  bool paused = false;
  std::optional<Time> next_run = std::nullopt;  ///< absent while paused
  /// next_run follows from the recurrence; otherwise somebody asked for this very moment.
  bool next_run_recurs = true;
  std::string state = {};  ///< for people: why it waits, or how the last run failed

  /// A run that was begun, for this due time, and whose job is not known yet; and the newest job
  /// that the schedule had then. What is left of it after a crash tells whether the run took place.
  std::optional<Time> claimed = std::nullopt;
  JobId claimed_after_job = 0;
  /// Jobs of this schedule whose end has not been seen.
  std::vector<JobId> running_jobs = {};
  std::optional<Time> last_run = std::nullopt;  ///< due time of the last run
  std::optional<Time> last_success = std::nullopt;
  std::int64_t successes = 0;
  std::int64_t failures = 0;

  bool deletes_backups() const { return !retention.empty() || keep_fulls > 0; }
};

/// The schedules' rows, in the daemon's database. Thread-safe.
class Schedules {
 public:
  /// `node_id` (0 to 32767) becomes part of every id.
  Schedules(state::Database& database, std::int64_t node_id);

  std::optional<Schedule> find(ScheduleId id) const;
  /// By id, which is the order of creation.
  std::vector<Schedule> list() const;

  /// Changes that become visible, and durable, together. Nobody else changes schedules meanwhile,
  /// so keep it short.
  class Edit {
   public:
    explicit Edit(Schedules& schedules);

    std::optional<Schedule> find(ScheduleId id);
    std::vector<Schedule> list();
    /// An id that no schedule has had. Each call gives a larger one.
    ScheduleId new_id(Time now);
    void insert(const Schedule& schedule);
    void save(const Schedule& schedule);
    bool remove(ScheduleId id);
    void commit() { transaction_.commit(); }

   private:
    Schedules& schedules_;
    state::Transaction transaction_;
    ScheduleId last_id_ = 0;
  };

 private:
  state::Database& database_;
  const std::int64_t node_id_;
};

}  // namespace holdfast::schedule
