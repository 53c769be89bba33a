#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "state/database.h"

namespace holdfast::state {

/// A backup, restore or verification that has ended. Texts are without secrets.
struct HistoryEntry {
  std::int64_t id = 0;                 ///< 1, 2, 3, …; never given twice
  std::optional<std::int64_t> job_id;  ///< absent: it failed before there was a job
  std::string type;                    ///< BACKUP, RESTORE or VERIFY BACKUP
  std::string description;
  std::string statement;
  std::string user_name;
  std::string status;  ///< the job's last one: succeeded, failed, canceled, revert-failed
  Time started{};
  Time finished{};
  std::optional<std::string> error_state = std::nullopt;
  std::optional<std::string> error_message = std::nullopt;
  std::int64_t result_rows = 0;
  std::int64_t result_bytes = 0;
  std::optional<std::int64_t> schedule_id = std::nullopt;
  std::optional<std::string> server_version = std::nullopt;

  bool succeeded() const { return status == "succeeded"; }
};

/// What has become of every backup, restore and verification, in the daemon's database. Jobs leave
/// their rows by themselves, in the transaction that ends them (state/schema.cc). Thread-safe.
class History {
 public:
  explicit History(Database& database) : database_(database) {}

  /// For what never became a job; the id is ignored.
  void add(const HistoryEntry& entry);
  /// In the order in which they ended; those of one user, or all.
  std::vector<HistoryEntry> list(const std::optional<std::string>& user_name) const;

  /// The id of the row that a job has left; absent when there is none (any more).
  std::optional<std::int64_t> find_by_job(std::int64_t job_id) const;

  enum class Outcome { Any, Success, Failure };
  /// Forgets all of these; gives their number.
  std::int64_t clear(Outcome outcome);
  bool remove(std::int64_t id);

 private:
  Database& database_;
};

}  // namespace holdfast::state
