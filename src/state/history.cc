#include "state/history.h"

namespace holdfast::state {

void History::add(const HistoryEntry& entry) {
  Transaction transaction(database_);
  transaction.execute(
      "INSERT INTO backup_history (job_id, type, description, statement, user_name, status, "
      "started, finished, error_state, error_message, result_rows, result_bytes, schedule_id, "
      "server_version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      {entry.job_id, entry.type, entry.description, entry.statement, entry.user_name, entry.status,
       entry.started, entry.finished, entry.error_state, entry.error_message, entry.result_rows,
       entry.result_bytes, entry.schedule_id, entry.server_version});
  transaction.commit();
}

std::vector<HistoryEntry> History::list(const std::optional<std::string>& user_name) const {
  Transaction transaction(database_);
  Statement row = transaction.query(
      "SELECT id, job_id, type, description, statement, user_name, status, started, finished, "
      "error_state, error_message, result_rows, result_bytes, schedule_id, server_version "
      "FROM backup_history WHERE ?1 IS NULL OR user_name = ?1 ORDER BY id",
      {user_name});
  std::vector<HistoryEntry> entries;
  while (row.step()) {
    entries.push_back({.id = row.integer(0),
                       .job_id = row.optional_integer(1),
                       .type = row.text(2),
                       .description = row.text(3),
                       .statement = row.text(4),
                       .user_name = row.text(5),
                       .status = row.text(6),
                       .started = row.time(7),
                       .finished = row.time(8),
                       .error_state = row.optional_text(9),
                       .error_message = row.optional_text(10),
                       .result_rows = row.integer(11),
                       .result_bytes = row.integer(12),
                       .schedule_id = row.optional_integer(13),
                       .server_version = row.optional_text(14)});
  }
  return entries;
}

std::optional<std::int64_t> History::find_by_job(std::int64_t job_id) const {
  Transaction transaction(database_);
  Statement row =
      transaction.query("SELECT max(id) FROM backup_history WHERE job_id = ?", {job_id});
  if (!row.step()) return std::nullopt;
  return row.optional_integer(0);
}

std::int64_t History::clear(Outcome outcome) {
  Transaction transaction(database_);
  std::int64_t removed = 0;
  switch (outcome) {
    case Outcome::Any:
      removed = transaction.execute("DELETE FROM backup_history");
      break;
    case Outcome::Success:
      removed = transaction.execute("DELETE FROM backup_history WHERE status = 'succeeded'");
      break;
    case Outcome::Failure:
      removed = transaction.execute("DELETE FROM backup_history WHERE status <> 'succeeded'");
      break;
  }
  transaction.commit();
  return removed;
}

bool History::remove(std::int64_t id) {
  Transaction transaction(database_);
  const std::int64_t removed = transaction.execute("DELETE FROM backup_history WHERE id = ?", {id});
  transaction.commit();
  return removed > 0;
}

}  // namespace holdfast::state
