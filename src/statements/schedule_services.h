#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "jobs/registry.h"
#include "schedule/schedules.h"
#include "sql/statements.h"
#include "statements/dispatcher.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// What the statements about schedules work with. All outlive the sessions.
struct ScheduleServices {
  schedule::Schedules* schedules = nullptr;
  jobs::Registry* registry = nullptr;
  Stores* stores = nullptr;
  sql::StatementRunner* statements = nullptr;
  /// Tells the scheduler to look at the rows again.
  std::function<void()> wake = [] {};
  const Clock* clock = &Clock::system();
};

/// Adds CREATE SCHEDULE, ALTER BACKUP SCHEDULE, SHOW SCHEDULES, SHOW CREATE SCHEDULE, and PAUSE,
/// RESUME, DROP and EXECUTE SCHEDULES.
void add_schedule_statements(Dispatcher& dispatcher, const ScheduleServices& services);

/// Throws kUndefinedObject "schedule with ID … does not exist".
[[noreturn]] void throw_unknown_schedule(schedule::ScheduleId id);

/// The state of an incremental that has no full yet.
/// Source: CockroachDB 25.4, backup schedules.
inline constexpr std::string_view kWaitsForFirstFull = "Waiting for initial backup to complete";

/// Makes them a pair of which the incremental waits for the next full.
void link(schedule::Schedule& incremental, schedule::Schedule& full);

/// What the schedule deletes after each success; absent when it deletes nothing.
std::optional<sql::DeleteBackups> deletion_of(const schedule::Schedule& schedule);

/// The BACKUP statement that a schedule runs.
sql::Backup backup_of(const schedule::Schedule& schedule);
/// The same as text for people: without secrets.
std::string shown_statement(const schedule::Schedule& schedule);

/// The rows that CREATE and ALTER answer: for each of `schedules`, incrementals first.
void answer_schedules(const std::vector<schedule::Schedule>& schedules, const sql::Statement& for_,
                      std::string_view tag, sql::RowSink& sink);

/// Runs the statement as far as no job comes of it. Its errors get "failed to dry run backup: "
/// before the message.
void dry_run(const sql::Backup& backup, sql::StatementRunner& statements,
             sql::SessionContext& session, const Stop& stop);
/// The same for what the schedule deletes, if anything.
void dry_run_deletion(const schedule::Schedule& schedule, sql::StatementRunner& statements,
                      sql::SessionContext& session, const Stop& stop);

/// What the schedule options say; absent where the statement does not.
struct ScheduleOptions {
  std::optional<Time> first_run;
  std::optional<schedule::OnExecutionFailure> on_execution_failure;
  std::optional<schedule::OnPreviousRunning> on_previous_running;
  std::optional<bool> updates_last_backup_metric;
  std::optional<std::string> time_zone;
  bool ignore_existing_backups = false;
  std::optional<std::string> retention;    ///< empty: no longer
  std::optional<std::int64_t> keep_fulls;  ///< 0: no longer
};
/// Throws kInvalidParameterValue.
ScheduleOptions read_schedule_options(const sql::Options& options, Time now);

/// Throws kInvalidParameterValue unless incrementals come more often than fulls.
void require_more_often(const schedule::Schedule& incremental, const schedule::Schedule& full,
                        Time now);

}  // namespace holdfast::statements
