#include "statements/show_schedules.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "sql/columns.h"
#include "sql/printer.h"
#include "statements/job_rights.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

using schedule::Schedule;
using sql::ShowSchedules;

// Source of the names: CockroachDB 25.4, SHOW SCHEDULES.
std::string_view shown(schedule::OnPreviousRunning value) {
  switch (value) {
    case schedule::OnPreviousRunning::Start:
      return "NO_WAIT";
    case schedule::OnPreviousRunning::Skip:
      return "SKIP";
    case schedule::OnPreviousRunning::Wait:
      break;
  }
  return "WAIT";
}

std::string_view shown(schedule::OnExecutionFailure value) {
  switch (value) {
    case schedule::OnExecutionFailure::Retry:
      return "RETRY_SOON";
    case schedule::OnExecutionFailure::Pause:
      return "PAUSE_SCHED";
    case schedule::OnExecutionFailure::Reschedule:
      break;
  }
  return "RETRY_SCHED";
}

std::string command_json(const Schedule& schedule) {
  nlohmann::ordered_json command;
  command["backup_statement"] = shown_statement(schedule);
  if (schedule.incremental) command["backup_type"] = 1;
  if (schedule.partner) command["dependent_schedule_id"] = *schedule.partner;
  if (schedule.unpause_partner && schedule.partner) {
    command["unpause_on_success"] = *schedule.partner;
  }
  return command.dump();
}

sql::Option text_option(sql::OptionName name, std::string_view value) {
  return {.name = sql::find_option(name.view(), sql::kSchedule)->name,
          .enabled = true,
          .values = {{.value = std::string(value), .parameter = {}}}};
}

sql::Option flag_option(sql::OptionName name) {
  return {
      .name = sql::find_option(name.view(), sql::kSchedule)->name, .enabled = true, .values = {}};
}

sql::CreateSchedule create_statement(const Schedule& full,
                                     const std::optional<Schedule>& incremental) {
  const sql::Backup backup = backup_of(full);
  sql::CreateSchedule create;
  create.label = sql::Text{.value = full.label, .parameter = {}};
  create.targets = backup.targets;
  create.into = backup.into;
  create.options = backup.options;
  std::erase_if(create.options.list,
                [](const sql::Option& option) { return option.name == "detached"; });
  create.recurring.value = incremental ? incremental->recurrence : full.recurrence;
  create.full_backup =
      sql::FullBackup{.always = !incremental,
                      .recurrence = {.value = incremental ? full.recurrence : "", .parameter = {}}};
  auto& options = create.schedule_options.list;
  options.push_back(text_option("on_execution_failure", name_of(full.on_execution_failure)));
  options.push_back(text_option("on_previous_running", name_of(full.on_previous_running)));
  if (full.ignore_existing_backups) options.push_back(flag_option("ignore_existing_backups"));
  if (full.updates_last_backup_metric) {
    options.push_back(flag_option("updates_cluster_last_backup_time_metric"));
  }
  if (!full.retention.empty()) options.push_back(text_option("retention", full.retention));
  if (full.keep_fulls > 0) {
    options.push_back(text_option("keep_fulls", fmt::format("{}", full.keep_fulls)));
  }
  if (!full.time_zone.empty()) options.push_back(text_option("time_zone", full.time_zone));
  return create;
}

}  // namespace

void ShowSchedulesStatement::run(const ShowSchedules& statement, sql::SessionContext& session,
                                 sql::RowSink& sink, const Stop&) {
  const JobRights rights = JobRights::of(session);
  std::vector<Schedule> schedules = services_.schedules->list();
  std::optional<std::int64_t> id;
  if (statement.id) id = resolver_.evaluate(*statement.id, session);
  std::erase_if(schedules, [&](const Schedule& schedule) {
    if (!rights.all && schedule.owner != rights.user) return true;
    if (statement.id && schedule.id != id) return true;
    if (statement.state == ShowSchedules::State::Running && schedule.paused) return true;
    if (statement.state == ShowSchedules::State::Paused && !schedule.paused) return true;
    // Every schedule of holdfast is one of backups.
    return statement.type == ShowSchedules::For::SqlStatistics ||
           statement.type == ShowSchedules::For::Changefeed;
  });
  if (statement.id && schedules.empty()) {
    throw_unknown_schedule(id.value_or(0));
  }
  sink.columns(sql::columns_of(statement));
  for (const Schedule& schedule : schedules) {
    sink.row(row(schedule, statement.type == ShowSchedules::For::Backup));
  }
  sink.complete(fmt::format("SHOW {}", schedules.size()));
}

sql::Row ShowSchedulesStatement::row(const Schedule& schedule, bool for_backup) const {
  const auto running = services_.registry->list(
      {.statuses = {{jobs::JobStatus::Pending, jobs::JobStatus::Running,
                     jobs::JobStatus::PauseRequested, jobs::JobStatus::Paused,
                     jobs::JobStatus::CancelRequested, jobs::JobStatus::Reverting}},
       .created_by_schedules = {{schedule.id}}});
  sql::Value next_run;
  if (schedule.next_run) next_run = format_timestamptz(*schedule.next_run);
  sql::Row row{fmt::format("{}", schedule.id),
               schedule.label,
               schedule.paused ? "PAUSED" : "ACTIVE",
               next_run,
               schedule.state.empty() ? sql::Value() : sql::Value(schedule.state),
               schedule.recurrence,
               fmt::format("{}", running.size()),
               schedule.owner,
               format_timestamptz(schedule.created),
               std::string(shown(schedule.on_previous_running)),
               std::string(shown(schedule.on_execution_failure))};
  if (for_backup) {
    row.emplace_back(shown_statement(schedule));
    row.emplace_back(schedule.incremental ? "INCREMENTAL" : "FULL");
  } else {
    row.emplace_back(command_json(schedule));
  }
  return row;
}

void ShowCreateScheduleStatement::run(const sql::ShowCreateSchedule& statement,
                                      sql::SessionContext& session, sql::RowSink& sink,
                                      const Stop&) {
  require_administrator(session, "see how schedules were created");
  std::vector<Schedule> schedules = services_.schedules->list();
  const std::vector<Schedule> all = schedules;
  if (statement.id) {
    const auto id = resolver_.evaluate(*statement.id, session);
    std::erase_if(schedules, [&](const Schedule& schedule) { return schedule.id != id; });
    if (schedules.empty()) throw_unknown_schedule(id.value_or(0));
  }
  const auto find = [&](std::optional<schedule::ScheduleId> id) -> std::optional<Schedule> {
    const auto found = std::ranges::find_if(all, [&](const Schedule& s) { return s.id == id; });
    return found == all.end() ? std::nullopt : std::optional<Schedule>(*found);
  };
  sink.columns(sql::columns_of(statement));
  for (const Schedule& schedule : schedules) {
    const std::optional<Schedule> partner = find(schedule.partner);
    // An incremental that has lost its full is shown as what is left: its own statement.
    const sql::CreateSchedule create = schedule.incremental && partner
                                           ? create_statement(*partner, schedule)
                                           : create_statement(schedule, partner);
    sink.row(sql::Row{fmt::format("{}", schedule.id), sql::print(create, sql::Redact::Secrets)});
  }
  sink.complete(fmt::format("SHOW {}", schedules.size()));
}

}  // namespace holdfast::statements
