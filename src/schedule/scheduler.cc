#include "schedule/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/log.h"
#include "schedule/recurrence.h"

namespace holdfast::schedule {

namespace {

constexpr std::chrono::seconds kTick{1};
// Source: CockroachDB, jobs/scheduled_job_executor.go (retryFailedJobAfter).
constexpr std::chrono::minutes kRetryAfter{1};

constexpr std::string_view kWaiting = "waiting for the previous run to end";
constexpr std::string_view kServerDown = "waiting for PostgreSQL, which is down";

Time next_of(const Schedule& schedule, Time now) {
  return Recurrence::parse(schedule.recurrence, schedule.time_zone).next(now);
}

void plan_next(Schedule& schedule, Time now) {
  schedule.next_run = next_of(schedule, now);
  schedule.next_run_recurs = true;
}

/// After the clock was set back by far, the planned moment may be years away. Within two
/// recurrences it stays, so that no due time runs twice because a clock was corrected.
bool planned_too_far_ahead(const Schedule& schedule, Time now) {
  if (!schedule.next_run || !schedule.next_run_recurs || *schedule.next_run <= now) return false;
  const Recurrence recurrence = Recurrence::parse(schedule.recurrence, schedule.time_zone);
  return recurrence.next(recurrence.next(now)) < *schedule.next_run;
}

}  // namespace

Scheduler::Scheduler(Schedules& schedules, Launcher& launcher, const Clock& clock)
    : schedules_(schedules), launcher_(launcher), clock_(clock) {}

Scheduler::~Scheduler() { shutdown(); }

void Scheduler::start() {
  thread_ = std::jthread([this] {
    const log::ThreadTag tag("scheduler");
    const Stop stop = stop_.stop();
    try {
      while (!stop.requested()) {
        try {
          tick(stop);
        } catch (const Error& error) {
          log::error("could not look after the schedules: {}", error.message());
        }
        MutexLock lock(mutex_);
        changed_.wait_for(lock, stop.token(), kTick,
                          [this]() HF_REQUIRES(mutex_) { return woken_; });
        woken_ = false;
      }
    } catch (const Stopped&) {
    }
  });
}

void Scheduler::shutdown() {
  stop_.request(StopReason::Shutdown);
  if (thread_.joinable()) thread_.join();
}

void Scheduler::wake() {
  MutexLock lock(mutex_);
  woken_ = true;
  changed_.notify_all();
}

void Scheduler::tick(const Stop& stop) {
  const std::vector<Schedule> schedules = schedules_.list();
  for (const Schedule& schedule : schedules) {
    stop.check();
    if (schedule.claimed || !schedule.running_jobs.empty()) settle(schedule.id, stop);
  }
  for (const Schedule& schedule : schedules) {
    stop.check();
    run_if_due(schedule.id, stop);
  }
}

/// Writes down what has become of the runs that were begun.
void Scheduler::settle(ScheduleId id, const Stop& stop) {
  std::optional<Schedule> schedule = schedules_.find(id);
  if (!schedule) return;
  if (schedule->claimed) settle_claim(*schedule);
  schedule = schedules_.find(id);
  if (!schedule || schedule->running_jobs.empty()) return;

  // The jobs are asked outside of the edit, which holds the database.
  std::vector<std::pair<JobId, JobEnd>> ends;
  std::string why;
  for (const JobId job : schedule->running_jobs) ends.emplace_back(job, launcher_.end_of(job, why));
  std::erase_if(ends, [](const auto& end) { return end.second == JobEnd::None; });
  if (ends.empty()) return;
  // Before the end is written down: a crash in between repeats it, which does no harm.
  const bool success =
      std::ranges::any_of(ends, [](const auto& end) { return end.second == JobEnd::Succeeded; });
  launcher_.pause_point("schedule.after_end", stop);
  std::string not_deleted;
  if (success && schedule->deletes_backups()) not_deleted = delete_backups(*schedule, stop);
  launcher_.pause_point("schedule.after_deletion", stop);

  Schedules::Edit edit(schedules_);
  schedule = edit.find(id);
  if (!schedule) return;
  for (const auto& [job, end] : ends) {
    if (std::erase(schedule->running_jobs, job) == 0) continue;
    if (end == JobEnd::Succeeded) succeeded(edit, *schedule);
    if (end == JobEnd::Failed) failed(*schedule, why);
  }
  if (schedule->state.empty()) schedule->state = not_deleted;
  edit.save(*schedule);
  edit.commit();
}

/// Why it could not begin; empty when it has.
std::string Scheduler::delete_backups(const Schedule& schedule, const Stop& stop) {
  try {
    launcher_.delete_backups(schedule, stop);
    return {};
  } catch (const Error& error) {
    // The backup is there; the next success tries again.
    log::warning("schedule {} could not delete old backups: {}", schedule.id, error.message());
    return fmt::format("could not delete old backups: {}", error.message());
  }
}

/// What an earlier process left: either its job exists, or the run has not taken place and is due.
void Scheduler::settle_claim(Schedule& schedule) {
  const JobId newest = launcher_.newest_job(schedule.id);
  Schedules::Edit edit(schedules_);
  const std::optional<Schedule> current = edit.find(schedule.id);
  if (!current || !current->claimed) return;
  schedule = *current;
  if (newest > schedule.claimed_after_job) {
    schedule.running_jobs.push_back(newest);
    schedule.last_run = schedule.claimed;
  } else if (!schedule.paused) {
    log::info("schedule {}: the run of {} was cut off and is made up for", schedule.id,
              format_timestamptz(*schedule.claimed));
    schedule.next_run = schedule.claimed;
    schedule.next_run_recurs = false;
  }
  schedule.claimed.reset();
  edit.save(schedule);
  edit.commit();
}

void Scheduler::succeeded(Schedules::Edit& edit, Schedule& schedule) {
  const Time now = clock_.now();
  schedule.last_success = now;
  ++schedule.successes;
  schedule.state.clear();
  if (!schedule.unpause_partner) return;
  schedule.unpause_partner = false;
  std::optional<Schedule> partner =
      schedule.partner ? edit.find(*schedule.partner) : std::optional<Schedule>();
  if (!partner || !partner->paused) return;
  partner->paused = false;
  partner->state.clear();
  plan_next(*partner, now);
  edit.save(*partner);
  log::info("schedule {} has its first full backup and begins", partner->id);
}

void Scheduler::failed(Schedule& schedule, std::string_view why) {
  const Time now = clock_.now();
  ++schedule.failures;
  log::warning("schedule {} failed, on_execution_failure={}: {}", schedule.id,
               name_of(schedule.on_execution_failure), why);
  schedule.state = fmt::format("last run failed: {}", why);
  if (schedule.paused) return;
  switch (schedule.on_execution_failure) {
    case OnExecutionFailure::Retry:
      if (!schedule.next_run || *schedule.next_run > now + kRetryAfter) {
        schedule.next_run = now + kRetryAfter;
        schedule.next_run_recurs = false;
      }
      return;
    case OnExecutionFailure::Reschedule:
      return;  // to where it is planned already
    case OnExecutionFailure::Pause:
      schedule.paused = true;
      schedule.next_run.reset();
      return;
  }
}

void Scheduler::run_if_due(ScheduleId id, const Stop& stop) {
  const std::optional<Schedule> due = claim_if_due(id);
  if (!due) return;
  launcher_.pause_point("schedule.after_claim", stop);
  std::optional<JobId> job;
  std::optional<Error> error;
  try {
    job = launcher_.launch(*due, stop);
  } catch (const Error& failure) {
    error = failure;
  }
  launcher_.pause_point("schedule.after_launch", stop);
  if (error) launcher_.record_failure(*due, *error);
  Schedules::Edit edit(schedules_);
  std::optional<Schedule> schedule = edit.find(id);
  if (!schedule) return;  // dropped meanwhile; its job goes on
  schedule->claimed.reset();
  if (job) {
    schedule->running_jobs.push_back(*job);
    schedule->last_run = due->claimed;
    schedule->state.clear();
    log::info("schedule {} has started job {}, due={}", id, *job,
              format_timestamptz(*due->claimed));
  } else {
    schedule->last_run = due->claimed;
    failed(*schedule, error->message());
  }
  edit.save(*schedule);
  edit.commit();
  launcher_.pause_point("schedule.after_record", stop);
}

/// The schedule as it was claimed for a run; absent when it shall not run now.
std::optional<Schedule> Scheduler::claim_if_due(ScheduleId id) {
  const Time now = clock_.now();
  {
    const std::optional<Schedule> seen = schedules_.find(id);
    if (!seen || seen->paused || !seen->next_run) return std::nullopt;
    if (*seen->next_run > now && !planned_too_far_ahead(*seen, now)) return std::nullopt;
  }
  const bool ready = launcher_.ready();
  const JobId newest = launcher_.newest_job(id);

  Schedules::Edit edit(schedules_);
  std::optional<Schedule> schedule = edit.find(id);
  if (!schedule || schedule->paused || !schedule->next_run) return std::nullopt;
  const std::string_view waits = !ready                           ? kServerDown
                                 : schedule->running_jobs.empty() ? std::string_view()
                                                                  : kWaiting;
  const bool overlaps = ready && !schedule->running_jobs.empty();
  if (*schedule->next_run > now) {
    plan_next(*schedule, now);
    log::warning("schedule {} is planned anew: the clock was set back", id);
  } else if (!ready || (overlaps && schedule->on_previous_running == OnPreviousRunning::Wait)) {
    // It stays due, and is looked at again with every tick.
    if (schedule->state == waits) return std::nullopt;
    schedule->state = waits;
  } else if (overlaps && schedule->on_previous_running == OnPreviousRunning::Skip) {
    schedule->state = fmt::format("skipped the run of {}: the previous one had not ended",
                                  format_timestamptz(*schedule->next_run));
    plan_next(*schedule, now);
  } else {
    schedule->claimed = schedule->next_run;
    schedule->claimed_after_job = newest;
    plan_next(*schedule, now);
    edit.save(*schedule);
    edit.commit();
    return schedule;
  }
  edit.save(*schedule);
  edit.commit();
  return std::nullopt;
}

}  // namespace holdfast::schedule
