#include "schedule/schedules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/error.h"

namespace holdfast::schedule {

namespace {

using state::Statement;

constexpr std::array kPrevious = {std::pair(OnPreviousRunning::Start, std::string_view("start")),
                                  std::pair(OnPreviousRunning::Skip, std::string_view("skip")),
                                  std::pair(OnPreviousRunning::Wait, std::string_view("wait"))};
constexpr std::array kFailure = {
    std::pair(OnExecutionFailure::Retry, std::string_view("retry")),
    std::pair(OnExecutionFailure::Reschedule, std::string_view("reschedule")),
    std::pair(OnExecutionFailure::Pause, std::string_view("pause"))};

template <typename Names, typename Value>
std::string_view name_in(const Names& names, Value value) {
  return std::ranges::find(names, value, &Names::value_type::first)->second;
}

template <typename Names>
auto value_in(const Names& names, std::string_view name)
    -> std::optional<typename Names::value_type::first_type> {
  const auto found = std::ranges::find(names, name, &Names::value_type::second);
  if (found == names.end()) return std::nullopt;
  return found->first;
}

constexpr std::string_view kColumns =
    "id, label, owner, database_name, created, statement, incremental, recurrence, time_zone, "
    "on_previous_running, on_execution_failure, updates_last_backup_metric, "
    "ignore_existing_backups, partner, unpause_partner, paused, next_run, next_run_recurs, state, "
    "claimed, claimed_after_job, running_jobs, last_run, last_success, successes, failures, "
    "retention, keep_fulls";

// As for jobs: the time of creation in units of 10 µs since 2020, then 15 bits for the node.
constexpr std::chrono::sys_days kIdEpoch = std::chrono::January / 1 / 2020;
constexpr int kNodeBits = 15;

std::string place_of(ScheduleId id) { return fmt::format("schedules.statement.{}", id); }

std::vector<JobId> read_jobs(const std::string& text) {
  std::vector<JobId> jobs;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    JobId job = 0;
    const auto [next, failure] = std::from_chars(at, end, job);
    if (failure != std::errc()) break;
    jobs.push_back(job);
    at = next + 1;  // the comma
  }
  return jobs;
}

Schedule read(const state::Database& database, const Statement& row) {
  Schedule schedule;
  schedule.id = row.integer(0);
  const auto damaged = [&](std::string_view what) {
    return Error(sqlstate::kDataCorrupted,
                 fmt::format("schedule {} has an unknown {}", schedule.id, what));
  };
  schedule.label = row.text(1);
  schedule.owner = row.text(2);
  schedule.database = row.text(3);
  schedule.created = row.time(4);
  schedule.statement = as_text(database.unseal(row.bytes(5), place_of(schedule.id)));
  schedule.incremental = row.integer(6) != 0;
  schedule.recurrence = row.text(7);
  schedule.time_zone = row.text(8);
  const auto previous = on_previous_running_named(row.text(9));
  const auto failure = on_execution_failure_named(row.text(10));
  if (!previous) throw damaged("on_previous_running");
  if (!failure) throw damaged("on_execution_failure");
  schedule.on_previous_running = *previous;
  schedule.on_execution_failure = *failure;
  schedule.updates_last_backup_metric = row.integer(11) != 0;
  schedule.ignore_existing_backups = row.integer(12) != 0;
  schedule.partner = row.optional_integer(13);
  schedule.unpause_partner = row.integer(14) != 0;
  schedule.paused = row.integer(15) != 0;
  schedule.next_run = row.optional_time(16);
  schedule.next_run_recurs = row.integer(17) != 0;
  schedule.state = row.text(18);
  schedule.claimed = row.optional_time(19);
  schedule.claimed_after_job = row.integer(20);
  schedule.running_jobs = read_jobs(row.text(21));
  schedule.last_run = row.optional_time(22);
  schedule.last_success = row.optional_time(23);
  schedule.successes = row.integer(24);
  schedule.failures = row.integer(25);
  schedule.retention = row.text(26);
  schedule.keep_fulls = row.integer(27);
  return schedule;
}

std::optional<Schedule> find_in(state::Database& database, state::Transaction& transaction,
                                ScheduleId id) {
  Statement row =
      transaction.query(fmt::format("SELECT {} FROM schedules WHERE id = ?", kColumns), {id});
  if (!row.step()) return std::nullopt;
  return read(database, row);
}

std::vector<Schedule> list_in(state::Database& database, state::Transaction& transaction) {
  Statement row = transaction.query(fmt::format("SELECT {} FROM schedules ORDER BY id", kColumns));
  std::vector<Schedule> schedules;
  while (row.step()) schedules.push_back(read(database, row));
  return schedules;
}

}  // namespace

std::string_view name_of(OnPreviousRunning value) { return name_in(kPrevious, value); }
std::string_view name_of(OnExecutionFailure value) { return name_in(kFailure, value); }
std::optional<OnPreviousRunning> on_previous_running_named(std::string_view name) {
  return value_in(kPrevious, name);
}
std::optional<OnExecutionFailure> on_execution_failure_named(std::string_view name) {
  return value_in(kFailure, name);
}

Schedules::Schedules(state::Database& database, std::int64_t node_id)
    : database_(database), node_id_(node_id) {}

std::optional<Schedule> Schedules::find(ScheduleId id) const {
  state::Transaction transaction(database_);
  return find_in(database_, transaction, id);
}

std::vector<Schedule> Schedules::list() const {
  state::Transaction transaction(database_);
  return list_in(database_, transaction);
}

Schedules::Edit::Edit(Schedules& schedules)
    : schedules_(schedules), transaction_(schedules.database_) {}

std::optional<Schedule> Schedules::Edit::find(ScheduleId id) {
  return find_in(schedules_.database_, transaction_, id);
}

std::vector<Schedule> Schedules::Edit::list() {
  return list_in(schedules_.database_, transaction_);
}

ScheduleId Schedules::Edit::new_id(Time now) {
  const auto since = std::chrono::duration_cast<std::chrono::microseconds>(now - kIdEpoch);
  std::int64_t ticks = std::max<std::int64_t>(since.count() / 10, 1);
  // Jobs refer to schedules that are gone, so an id is not given twice, whatever the clock does.
  Statement newest = transaction_.query(
      "SELECT COALESCE(MAX(id), 0) FROM (SELECT id FROM schedules UNION ALL "
      "SELECT created_by_schedule FROM jobs)");
  if (newest.step()) last_id_ = std::max(last_id_, newest.integer(0));
  ticks = std::max(ticks, (last_id_ >> kNodeBits) + 1);
  last_id_ = (ticks << kNodeBits) | schedules_.node_id_;
  return last_id_;
}

void Schedules::Edit::insert(const Schedule& schedule) {
  transaction_.execute(
      "INSERT INTO schedules (id, label, owner, database_name, created, statement, incremental, "
      "recurrence, on_previous_running, on_execution_failure) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, '', '', '')",
      {schedule.id, schedule.label, schedule.owner, schedule.database, schedule.created, Bytes(),
       schedule.incremental ? 1 : 0});
  save(schedule);
}

void Schedules::Edit::save(const Schedule& s) {
  transaction_.execute(
      "UPDATE schedules SET label = ?, statement = ?, recurrence = ?, time_zone = ?, "
      "on_previous_running = ?, on_execution_failure = ?, updates_last_backup_metric = ?, "
      "ignore_existing_backups = ?, partner = ?, unpause_partner = ?, paused = ?, next_run = ?, "
      "next_run_recurs = ?, state = ?, claimed = ?, claimed_after_job = ?, running_jobs = ?, "
      "last_run = ?, last_success = ?, successes = ?, failures = ?, retention = ?, "
      "keep_fulls = ? WHERE id = ?",
      {s.label,
       schedules_.database_.seal(as_bytes(s.statement), place_of(s.id)),
       s.recurrence,
       s.time_zone,
       name_of(s.on_previous_running),
       name_of(s.on_execution_failure),
       s.updates_last_backup_metric ? 1 : 0,
       s.ignore_existing_backups ? 1 : 0,
       s.partner,
       s.unpause_partner ? 1 : 0,
       s.paused ? 1 : 0,
       s.next_run,
       s.next_run_recurs ? 1 : 0,
       s.state,
       s.claimed,
       s.claimed_after_job,
       fmt::format("{}", fmt::join(s.running_jobs, ",")),
       s.last_run,
       s.last_success,
       s.successes,
       s.failures,
       s.retention,
       s.keep_fulls,
       s.id});
}

bool Schedules::Edit::remove(ScheduleId id) {
  return transaction_.execute("DELETE FROM schedules WHERE id = ?", {id}) > 0;
}

}  // namespace holdfast::schedule
