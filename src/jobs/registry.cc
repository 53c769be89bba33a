#include "jobs/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "base/assert.h"

namespace holdfast::jobs {

namespace {

using state::Statement;
using state::Transaction;

constexpr std::string_view kColumns =
    "id, type, description, statement, user_name, status, running_status, created, finished, "
    "modified, fraction_completed, error_state, error_message, error_detail, error_hint, "
    "reverts_to, pause_reason, coordinator_id, created_by_schedule, num_runs, result_rows";

// A id is the time of creation in units of 10 µs since 2020, then 15 bits for the node. Good until
// the year 2109.
constexpr std::chrono::sys_days kIdEpoch = std::chrono::January / 1 / 2020;
constexpr int kNodeBits = 15;

constexpr int kExecutionErrorsKept = 10;

JobStatus status_from(const std::string& name, JobId id) {
  const auto status = job_status_named(name);
  if (!status) {
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("job {} has the unknown state \"{}\"", id, name));
  }
  return *status;
}

Job read_job(const Statement& row) {
  Job job;
  job.id = row.integer(0);
  job.type = row.text(1);
  job.description = row.text(2);
  job.statement = row.text(3);
  job.user_name = row.text(4);
  job.status = status_from(row.text(5), job.id);
  job.running_status = row.text(6);
  job.created = row.time(7);
  job.finished = row.optional_time(8);
  job.modified = row.time(9);
  job.fraction_completed = row.real(10);
  if (!row.is_null(11)) {
    job.error = Error(SqlState::from_server(row.text(11)), row.text(12));
    job.error->detail(row.text(13));
    job.error->hint(row.text(14));
  }
  if (!row.is_null(15)) job.reverts_to = status_from(row.text(15), job.id);
  job.pause_reason = row.optional_text(16);
  job.coordinator_id = row.optional_integer(17);
  job.created_by_schedule = row.optional_integer(18);
  job.num_runs = row.integer(19);
  job.result_rows = row.integer(20);
  return job;
}

[[noreturn]] void throw_unknown(JobId id) {
  throw Error(sqlstate::kUndefinedObject, fmt::format("job with ID {} does not exist", id))
      .hint("List the jobs with SHOW JOBS.");
}

RequestSubject subject(Transaction& transaction, JobId id) {
  Statement row = transaction.query("SELECT status, reverts_to FROM jobs WHERE id = ?", {id});
  if (!row.step()) throw_unknown(id);
  return {.id = id, .status = status_from(row.text(0), id), .was_reverting = !row.is_null(1)};
}

/// Checks that the runner may make this move. That it may not would be an error of the runner.
void insist(Transaction& transaction, JobId id, JobStatus to) {
  HF_ASSERT(may_move(subject(transaction, id).status, to));
}

void write_error(Transaction& transaction, JobId id, const Error& error) {
  transaction.execute(
      "UPDATE jobs SET error_state = ?, error_message = ?, error_detail = ?, error_hint = ? "
      "WHERE id = ?",
      {error.state().view(), error.message(), error.detail(), error.hint(), id});
}

void write_execution_error(Transaction& transaction, JobId id, std::string_view text) {
  transaction.execute(
      "INSERT INTO job_execution_errors (job_id, number, text) "
      "SELECT ?1, COALESCE(MAX(number), 0) + 1, ?2 FROM job_execution_errors WHERE job_id = ?1",
      {id, text});
  transaction.execute(
      "DELETE FROM job_execution_errors WHERE job_id = ?1 AND number <= "
      "(SELECT MAX(number) FROM job_execution_errors WHERE job_id = ?1) - ?2",
      {id, kExecutionErrorsKept});
}

/// For json_each(): a list of any length as one parameter.
template <typename Range, typename Print>
std::string json_list(const Range& values, Print print) {
  std::string list = "[";
  for (const auto& value : values) {
    if (list.size() > 1) list += ',';
    list += print(value);
  }
  return list + ']';
}

std::optional<std::string> id_list(const std::optional<std::vector<std::int64_t>>& ids) {
  if (!ids) return std::nullopt;
  return json_list(*ids, [](std::int64_t id) { return fmt::format("{}", id); });
}

}  // namespace

Time creation_time(JobId id) {
  return kIdEpoch + std::chrono::microseconds((id >> kNodeBits) * 10);
}

Registry::Registry(state::Database& database, std::int64_t node_id, const Clock& clock)
    : database_(database), node_id_(node_id), clock_(clock) {
  HF_ASSERT(node_id >= 0 && node_id < (1 << kNodeBits));
  Transaction transaction(database_);
  Statement newest = transaction.query("SELECT MAX(id) FROM jobs");
  if (newest.step()) last_id_ = newest.integer(0);
}

JobId Registry::next_id() {
  const auto since = std::chrono::duration_cast<std::chrono::microseconds>(clock_.now() - kIdEpoch);
  const std::int64_t ticks = std::max<std::int64_t>(since.count() / 10, 0);
  MutexLock lock(mutex_);
  // Ids go up even when the clock is set back or two jobs come within 10 µs.
  const std::int64_t next = std::max(ticks, (last_id_ >> kNodeBits) + 1);
  last_id_ = (next << kNodeBits) | node_id_;
  return last_id_;
}

JobId Registry::create(const NewJob& job) {
  const JobId id = next_id();
  const Time now = clock_.now();
  Transaction transaction(database_);
  transaction.execute(
      "INSERT INTO jobs (id, type, description, statement, user_name, status, created, modified, "
      "created_by_schedule) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
      {id, job.type, job.description, job.statement, job.user_name, name_of(JobStatus::Pending),
       now, now, job.created_by_schedule});
  transaction.execute("INSERT INTO job_blobs (job_id, specification) VALUES (?, ?)",
                      {id, database_.seal(job.specification, state::specification_place(id))});
  transaction.commit();
  return id;
}

std::optional<Job> Registry::find(JobId id) const {
  Transaction transaction(database_);
  Statement row =
      transaction.query(fmt::format("SELECT {} FROM jobs WHERE id = ?", kColumns), {id});
  if (!row.step()) return std::nullopt;
  return read_job(row);
}

Job Registry::get(JobId id) const {
  std::optional<Job> job = find(id);
  if (!job) throw_unknown(id);
  return *std::move(job);
}

std::vector<Job> Registry::list(const JobFilter& filter) const {
  std::optional<std::string> statuses;
  if (filter.statuses) {
    statuses = json_list(*filter.statuses,
                         [](JobStatus status) { return fmt::format("\"{}\"", name_of(status)); });
  }
  Transaction transaction(database_);
  Statement row = transaction.query(
      fmt::format("SELECT {} FROM jobs WHERE "
                  "(?1 IS NULL OR id IN (SELECT value FROM json_each(?1))) "
                  "AND (?2 IS NULL OR type = ?2) "
                  "AND (?3 IS NULL OR status IN (SELECT value FROM json_each(?3))) "
                  "AND (?4 IS NULL OR finished IS NULL OR finished >= ?4) "
                  "AND (?5 IS NULL OR created_by_schedule IN (SELECT value FROM json_each(?5))) "
                  "AND (?6 IS NULL OR user_name = ?6) "
                  "ORDER BY finished IS NULL DESC, finished DESC, created DESC, id DESC",
                  kColumns),
      {id_list(filter.ids), filter.type, statuses, filter.unfinished_or_since,
       id_list(filter.created_by_schedules), filter.user_name});
  std::vector<Job> jobs;
  while (row.step()) jobs.push_back(read_job(row));
  return jobs;
}

std::vector<std::string> Registry::execution_errors(JobId id) const {
  Transaction transaction(database_);
  Statement row = transaction.query(
      "SELECT text FROM job_execution_errors WHERE job_id = ? ORDER BY number", {id});
  std::vector<std::string> errors;
  while (row.step()) errors.push_back(row.text(0));
  return errors;
}

Bytes Registry::specification(JobId id) const {
  Transaction transaction(database_);
  Statement row = transaction.query("SELECT specification FROM job_blobs WHERE job_id = ?", {id});
  if (!row.step()) throw_unknown(id);
  return database_.unseal(row.bytes(0), state::specification_place(id));
}

std::optional<Bytes> Registry::checkpoint(JobId id) const {
  Transaction transaction(database_);
  Statement row = transaction.query("SELECT checkpoint FROM job_blobs WHERE job_id = ?", {id});
  if (!row.step()) throw_unknown(id);
  return row.optional_bytes(0);
}

void Registry::save_checkpoint(JobId id, ByteView bytes) {
  Transaction transaction(database_);
  if (transaction.execute("UPDATE job_blobs SET checkpoint = ? WHERE job_id = ?", {bytes, id}) ==
      0) {
    throw_unknown(id);
  }
  transaction.commit();
}

std::optional<JobStatus> Registry::request(JobId id, JobRequest request,
                                           const std::optional<std::string>& reason) {
  Transaction transaction(database_);
  const auto status = status_after(request, subject(transaction, id));
  if (!status) return std::nullopt;
  transaction.execute("UPDATE jobs SET status = ?, modified = ? WHERE id = ?",
                      {name_of(*status), clock_.now(), id});
  if (request == JobRequest::Pause) {
    transaction.execute("UPDATE jobs SET pause_reason = ? WHERE id = ?", {reason, id});
  } else if (*status == JobStatus::Running) {
    // What made it pause is history; a job that reverts keeps its error.
    transaction.execute(
        "UPDATE jobs SET pause_reason = NULL, error_state = NULL, error_message = NULL, "
        "error_detail = NULL, error_hint = NULL WHERE id = ?",
        {id});
  }
  transaction.commit();
  return status;
}

void Registry::move(JobId id, JobStatus status) {
  Transaction transaction(database_);
  insist(transaction, id, status);
  const Time now = clock_.now();
  transaction.execute(
      "UPDATE jobs SET status = ?, modified = ?, finished = ?, running_status = '' WHERE id = ?",
      {name_of(status), now, is_terminal(status) ? std::optional(now) : std::nullopt, id});
  transaction.commit();
}

void Registry::begin_revert(JobId id, JobStatus end, const Error& error) {
  HF_ASSERT(end == JobStatus::Failed || end == JobStatus::Canceled);
  Transaction transaction(database_);
  insist(transaction, id, JobStatus::Reverting);
  transaction.execute(
      "UPDATE jobs SET status = ?, reverts_to = ?, modified = ?, running_status = '' WHERE id = ?",
      {name_of(JobStatus::Reverting), name_of(end), clock_.now(), id});
  write_error(transaction, id, error);
  transaction.commit();
}

void Registry::pause_for(JobId id, const Error& error) {
  Transaction transaction(database_);
  insist(transaction, id, JobStatus::Paused);
  transaction.execute(
      "UPDATE jobs SET status = ?, modified = ?, running_status = '', pause_reason = ? "
      "WHERE id = ?",
      {name_of(JobStatus::Paused), clock_.now(), error.message(), id});
  write_error(transaction, id, error);
  transaction.commit();
}

void Registry::succeed(JobId id, std::int64_t result_rows) {
  Transaction transaction(database_);
  insist(transaction, id, JobStatus::Succeeded);
  const Time now = clock_.now();
  transaction.execute(
      "UPDATE jobs SET status = ?, modified = ?, finished = ?, running_status = '', "
      "fraction_completed = 1, result_rows = ? WHERE id = ?",
      {name_of(JobStatus::Succeeded), now, now, result_rows, id});
  transaction.commit();
}

void Registry::fail_revert(JobId id, const Error& error) {
  Transaction transaction(database_);
  insist(transaction, id, JobStatus::RevertFailed);
  const Time now = clock_.now();
  transaction.execute(
      "UPDATE jobs SET status = ?, modified = ?, finished = ?, running_status = '' WHERE id = ?",
      {name_of(JobStatus::RevertFailed), now, now, id});
  write_execution_error(transaction, id, fmt::format("reverting failed: {}", error.message()));
  transaction.commit();
}

void Registry::count_run(JobId id) {
  Transaction transaction(database_);
  transaction.execute(
      "UPDATE jobs SET num_runs = num_runs + 1, coordinator_id = ?, modified = ? WHERE id = ?",
      {node_id_, clock_.now(), id});
  transaction.commit();
}

void Registry::add_execution_error(JobId id, std::string_view text) {
  Transaction transaction(database_);
  write_execution_error(transaction, id, text);
  transaction.commit();
}

void Registry::set_progress(JobId id, double fraction_completed, std::string_view running_status) {
  Transaction transaction(database_);
  // MAX: the fraction never goes back, also over restarts.
  transaction.execute(
      "UPDATE jobs SET fraction_completed = MAX(fraction_completed, ?), running_status = ?, "
      "modified = ? WHERE id = ? AND finished IS NULL AND status NOT IN ('pending', 'paused')",
      {fraction_completed, running_status, clock_.now(), id});
  transaction.commit();
}

void Registry::set_result_bytes(JobId id, std::int64_t bytes) {
  Transaction transaction(database_);
  transaction.execute("UPDATE jobs SET result_bytes = ? WHERE id = ?", {bytes, id});
  transaction.commit();
}

void Registry::set_owner(JobId id, std::string_view user_name) {
  Transaction transaction(database_);
  if (transaction.execute("UPDATE jobs SET user_name = ?, modified = ? WHERE id = ?",
                          {user_name, clock_.now(), id}) == 0) {
    throw_unknown(id);
  }
  transaction.commit();
}

std::int64_t Registry::remove_finished_before(Time moment) {
  Transaction transaction(database_);
  const std::int64_t removed = transaction.execute("DELETE FROM jobs WHERE finished < ?", {moment});
  transaction.commit();
  return removed;
}

}  // namespace holdfast::jobs
