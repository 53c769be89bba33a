#include "statements/alter_schedule.h"

#include <fmt/format.h>

#include <optional>

#include "base/error.h"
#include "schedule/recurrence.h"
#include "sql/printer.h"
#include "statements/create_schedule.h"
#include "statements/job_rights.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

using schedule::Recurrence;
using schedule::Schedule;
using ScheduleEdit = schedule::Schedules::Edit;
using Execute = sql::AlterBackupSchedule::Execute;

struct Pair {
  Schedule full;
  std::optional<Schedule> incremental;
  bool incremental_is_new = false;
  std::optional<schedule::ScheduleId> removed;

  template <typename F>
  void each(F&& change) {
    if (incremental) change(*incremental);
    change(full);
  }
};

Pair find_pair(ScheduleEdit& edit, schedule::ScheduleId id) {
  std::optional<Schedule> named = edit.find(id);
  if (!named) throw_unknown_schedule(id);
  std::optional<Schedule> partner =
      named->partner ? edit.find(*named->partner) : std::optional<Schedule>();
  if (!named->incremental) return {.full = *named, .incremental = partner, .removed = {}};
  if (!partner) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("incremental backup schedule {0} has no corresponding full backup "
                            "schedule; drop schedule {0} and recreate",
                            id));
  }
  return {.full = *partner, .incremental = named, .removed = {}};
}

void require_rights(const Pair& pair, const sql::AlterBackupSchedule& statement,
                    const JobRights& rights) {
  const bool covers = rights.all || (pair.full.owner == rights.user &&
                                     (!pair.incremental || pair.incremental->owner == rights.user));
  const bool metric =
      statement.schedule_options.find("updates_cluster_last_backup_time_metric") != nullptr;
  if (covers && (rights.all || !metric)) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              "must be admin or the owner of the schedules being altered, or have REPAIRCLUSTER "
              "privilege")
      .hint(fmt::format("Superusers and members of the role {} have it.", kAdministratorRole));
}

/// Whether SET WITH gives the option the value that takes it away.
bool unsets(const sql::Option& option) {
  if (!option.enabled) return true;
  return option.values.size() == 1 && option.values[0].value.empty();
}

void set_options(sql::Backup& backup, const sql::Options& changes) {
  for (const sql::Option& change : changes.list) {
    if (change.name == "detached") {
      throw Error(sqlstate::kInvalidParameterValue,
                  "DETACHED is required for scheduled backups and cannot be altered");
    }
    std::erase_if(backup.options.list,
                  [&](const sql::Option& option) { return option.name == change.name; });
    if (!unsets(change)) backup.options.list.push_back(change);
  }
}

void change_backup(Pair& pair, const sql::AlterBackupSchedule& statement) {
  if (statement.into.empty() && statement.options.empty()) return;
  pair.each([&](Schedule& schedule) {
    sql::Backup backup = backup_of(schedule);
    if (!statement.into.empty()) backup.into = statement.into;
    set_options(backup, statement.options);
    schedule.statement = sql::print(backup, sql::Redact::Nothing);
  });
}

/// There is no full at the new place for the incremental to continue.
void start_chain_anew(Pair& pair, const sql::AlterBackupSchedule& statement, Time now) {
  if (statement.into.empty() || !pair.incremental) return;
  const bool was_active = !pair.incremental->paused;
  link(*pair.incremental, pair.full);
  if (was_active && !pair.full.paused) {
    pair.full.next_run = now;
    pair.full.next_run_recurs = false;
  }
}

void plan(Schedule& schedule, Time now) {
  const Recurrence recurrence = Recurrence::parse(schedule.recurrence, schedule.time_zone);
  if (schedule.paused) return;
  schedule.next_run = recurrence.next(now);
  schedule.next_run_recurs = true;
}

void change_full_cadence(Pair& pair, const sql::AlterBackupSchedule& statement, Time now) {
  if (!statement.full_backup) return;
  if (statement.full_backup->always) {
    if (!pair.incremental) return;
    pair.full.recurrence = pair.incremental->recurrence;
    pair.full.partner.reset();
    pair.full.unpause_partner = false;
    pair.removed = pair.incremental->id;
    pair.incremental.reset();
  } else {
    if (!pair.incremental) {
      pair.incremental = pair.full;
      pair.incremental_is_new = true;
      Schedule& incremental = *pair.incremental;
      incremental.incremental = true;
      incremental.created = now;
      incremental.on_previous_running = schedule::OnPreviousRunning::Wait;
      incremental.claimed.reset();
      incremental.running_jobs.clear();
      incremental.last_run.reset();
      incremental.last_success.reset();
      incremental.successes = incremental.failures = 0;
      sql::Backup backup = backup_of(incremental);
      backup.onto = sql::Subdirectory{.latest = true, .path = {}};
      incremental.statement = sql::print(backup, sql::Redact::Nothing);
    }
    pair.full.recurrence = statement.full_backup->recurrence.value;
  }
  plan(pair.full, now);
}

void change_recurrence(Pair& pair, const sql::AlterBackupSchedule& statement, Time now) {
  if (!statement.recurring) return;
  Schedule& schedule = pair.incremental ? *pair.incremental : pair.full;
  schedule.recurrence = statement.recurring->value;
  plan(schedule, now);
}

void change_schedule_options(Pair& pair, const sql::AlterBackupSchedule& statement, Time now) {
  for (const std::string_view fixed : {"first_run", "ignore_existing_backups"}) {
    for (const sql::Option& option : statement.schedule_options.list) {
      if (option.name != fixed) continue;
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("schedule option {} cannot be altered", fixed));
    }
  }
  const ScheduleOptions options = read_schedule_options(statement.schedule_options, now);
  if (options.on_previous_running) pair.full.on_previous_running = *options.on_previous_running;
  pair.each([&](Schedule& schedule) {
    if (options.on_execution_failure) schedule.on_execution_failure = *options.on_execution_failure;
    if (options.updates_last_backup_metric) {
      schedule.updates_last_backup_metric = *options.updates_last_backup_metric;
    }
    if (options.retention) schedule.retention = *options.retention;
    if (options.keep_fulls) schedule.keep_fulls = *options.keep_fulls;
    if (options.time_zone) {
      schedule.time_zone = *options.time_zone;
      plan(schedule, now);
    }
  });
}

void execute(Pair& pair, Execute what, Time now) {
  if (what == Execute::No) return;
  Schedule& schedule = what == Execute::Now && pair.incremental ? *pair.incremental : pair.full;
  if (schedule.paused) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "cannot execute a paused schedule; use RESUME SCHEDULE instead");
  }
  schedule.next_run = now;
  schedule.next_run_recurs = false;
}

/// All that the statement says, in an order that makes its parts independent of theirs.
void apply(Pair& pair, const sql::AlterBackupSchedule& statement, Time now) {
  if (statement.label) {
    pair.each([&](Schedule& schedule) { schedule.label = statement.label->value; });
  }
  change_backup(pair, statement);
  change_full_cadence(pair, statement, now);
  change_recurrence(pair, statement, now);
  change_schedule_options(pair, statement, now);
  start_chain_anew(pair, statement, now);
  execute(pair, statement.execute, now);
  if (pair.incremental) require_more_often(*pair.incremental, pair.full, now);
}

}  // namespace

void AlterScheduleStatement::run(const sql::AlterBackupSchedule& statement,
                                 sql::SessionContext& session, sql::RowSink& sink,
                                 const Stop& stop) {
  const Time now = services_.clock->now();
  const JobRights rights = JobRights::of(session);
  const auto load = [&](ScheduleEdit& edit) {
    Pair pair = find_pair(edit, statement.id);
    require_rights(pair, statement, rights);
    apply(pair, statement, now);
    return pair;
  };
  // Once without effect, because a dry run must not wait inside an edit.
  std::optional<Pair> trial;
  {
    ScheduleEdit edit(*services_.schedules);
    trial = load(edit);
  }
  if (!statement.into.empty() || !statement.options.empty()) {
    dry_run(backup_of(trial->full), *services_.statements, session, stop);
  }
  dry_run_deletion(trial->full, *services_.statements, session, stop);

  std::vector<Schedule> changed;
  {
    ScheduleEdit edit(*services_.schedules);
    Pair pair = load(edit);
    if (pair.removed) edit.remove(*pair.removed);
    if (pair.incremental_is_new) {
      pair.incremental->id = edit.new_id(now);
      link(*pair.incremental, pair.full);
      edit.insert(*pair.incremental);
    }
    pair.each([&](Schedule& schedule) {
      edit.save(schedule);
      changed.push_back(schedule);
    });
    edit.commit();
  }
  services_.wake();
  answer_schedules(changed, statement, "ALTER SCHEDULE", sink);
}

}  // namespace holdfast::statements
