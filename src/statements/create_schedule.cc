#include "statements/create_schedule.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "collection/collection.h"
#include "schedule/recurrence.h"
#include "sql/columns.h"
#include "sql/lexer.h"
#include "sql/printer.h"
#include "statements/job_rights.h"
#include "statements/privileges.h"
#include "storage/uri.h"

namespace holdfast::statements {

namespace {

using schedule::Recurrence;
using schedule::Schedule;

/// When fulls and incrementals are taken.
struct Cadence {
  std::string full;
  std::string incremental;  ///< empty: every backup is a full
  bool chosen = false;      ///< by us, because the statement does not say
};

/// Source: CockroachDB 25.4, how often fulls are taken when FULL BACKUP is absent.
Cadence cadence_of(const sql::CreateSchedule& statement, const std::string& zone, Time now) {
  const std::string& recurring = statement.recurring.value;
  const auto period = Recurrence::parse(recurring, zone).period(now);
  if (statement.full_backup) {
    if (statement.full_backup->always) return {.full = recurring, .incremental = {}};
    return {.full = statement.full_backup->recurrence.value, .incremental = recurring};
  }
  if (period <= std::chrono::hours(1)) {
    return {.full = "@daily", .incremental = recurring, .chosen = true};
  }
  if (period <= std::chrono::hours(24)) {
    return {.full = "@weekly", .incremental = recurring, .chosen = true};
  }
  return {.full = recurring, .incremental = {}, .chosen = true};
}

/// A name that means the same table whatever the search path is when the schedule runs. What is no
/// table is left as it is: the dry run says so.
void qualify(sql::TablePattern& table, sql::SessionContext& session) {
  if (table.wildcard || table.parts.size() != 1 || !session.server_available()) return;
  const sql::QueryResult found = session.query(fmt::format(
      "SELECT n.nspname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
      " ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE c.oid OPERATOR(pg_catalog.=)"
      " pg_catalog.to_regclass({})",
      sql::quote_literal(sql::quote_identifier(table.parts[0]))));
  if (found.rows.size() != 1 || !found.rows[0][0]) return;
  table.parts = {session.database(), *found.rows[0][0], table.parts[0]};
}

}  // namespace

sql::Options detached(sql::Options options) {
  const std::string_view name = sql::find_option("detached", sql::kBackup)->name;
  std::erase_if(options.list, [&](const sql::Option& option) { return option.name == name; });
  options.list.push_back({.name = name, .enabled = true, .values = {}});
  return options;
}

void CreateScheduleStatement::run(const sql::CreateSchedule& statement,
                                  sql::SessionContext& session, sql::RowSink& sink,
                                  const Stop& stop) {
  if (statement.if_not_exists && statement.label) {
    const std::string& label = statement.label->value;
    // Those that the user may see: labels are not unique, and those of others are not told.
    const JobRights rights = JobRights::of(session);
    const std::vector<Schedule> all = services_.schedules->list();
    if (std::ranges::any_of(all, [&](const Schedule& schedule) {
          return schedule.label == label && (rights.all || schedule.owner == rights.user);
        })) {
      sink.notice({.state = sqlstate::kDuplicateObject,
                   .message = fmt::format("schedule \"{}\" already exists, skipping", label)});
      sink.columns(sql::columns_of(statement));
      return sink.complete("CREATE SCHEDULE");
    }
  }
  sql::Backup backup{.targets = statement.targets,
                     .onto = {},
                     .into = statement.into,
                     .as_of = {},
                     .options = detached(statement.options)};
  for (sql::TablePattern& table : backup.targets.tables) qualify(table, session);
  std::vector<Schedule> made = make(statement, backup, session, stop);

  schedule::Schedules::Edit edit(*services_.schedules);
  for (Schedule& schedule : made) schedule.id = edit.new_id(services_.clock->now());
  if (made.size() == 2) link(made[0], made[1]);
  for (const Schedule& schedule : made) edit.insert(schedule);
  edit.commit();
  services_.wake();
  answer_schedules(made, statement, "CREATE SCHEDULE", sink);
}

std::vector<Schedule> CreateScheduleStatement::make(const sql::CreateSchedule& statement,
                                                    const sql::Backup& backup,
                                                    sql::SessionContext& session,
                                                    const Stop& stop) const {
  const Time now = services_.clock->now();
  const ScheduleOptions options = read_schedule_options(statement.schedule_options, now);
  if (options.updates_last_backup_metric.value_or(false)) {
    require_administrator(session, "set updates_cluster_last_backup_time_metric");
  }
  const std::string zone = options.time_zone.value_or("");
  const Cadence cadence = cadence_of(statement, zone, now);

  Schedule full{
      .label = statement.label
                   ? statement.label->value
                   : fmt::format(
                         "BACKUP {}",
                         std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count()),
      .owner = current_user(session),
      .database = session.database(),
      .created = now,
      .statement = sql::print(backup, sql::Redact::Nothing),
      .recurrence = cadence.full,
      .time_zone = zone};
  full.on_execution_failure =
      options.on_execution_failure.value_or(schedule::OnExecutionFailure::Reschedule);
  full.on_previous_running =
      options.on_previous_running.value_or(schedule::OnPreviousRunning::Wait);
  full.updates_last_backup_metric = options.updates_last_backup_metric.value_or(false);
  full.ignore_existing_backups = options.ignore_existing_backups;
  full.retention = options.retention.value_or("");
  full.keep_fulls = options.keep_fulls.value_or(0);
  full.next_run = Recurrence::parse(full.recurrence, zone).next(now);
  if (options.first_run || cadence.chosen) {
    full.next_run = options.first_run.value_or(now);
    full.next_run_recurs = false;
  }
  Schedule incremental = full;
  if (!cadence.incremental.empty()) {
    sql::Backup onto_latest = backup;
    onto_latest.onto = sql::Subdirectory{.latest = true, .path = {}};
    incremental.statement = sql::print(onto_latest, sql::Redact::Nothing);
    incremental.incremental = true;
    incremental.recurrence = cadence.incremental;
    // Two increments at once would both continue the same layer.
    incremental.on_previous_running = schedule::OnPreviousRunning::Wait;
    require_more_often(incremental, full, now);
  }

  dry_run(backup, *services_.statements, session, stop);
  dry_run_deletion(full, *services_.statements, session, stop);
  if (!options.ignore_existing_backups) refuse_existing_backups(statement, session, stop);

  if (!incremental.incremental) return {full};
  return {incremental, full};
}

/// A second schedule into one collection would make LATEST ambiguous.
void CreateScheduleStatement::refuse_existing_backups(const sql::CreateSchedule& statement,
                                                      sql::SessionContext& session,
                                                      const Stop& stop) const {
  const std::string& uri = statement.into.front().value;
  const auto store = open_for_user(*services_.stores, uri, session);
  if (collection::list_fulls(*store, stop).empty()) return;
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("backups already created in {}; to ignore existing backups, the schedule "
                          "can be created with the 'ignore_existing_backups' option",
                          storage::redact_uri(uri)));
}

}  // namespace holdfast::statements
