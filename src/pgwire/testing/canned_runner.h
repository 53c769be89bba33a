#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sql/statement_runner.h"

namespace holdfast::pgwire {

/// A StatementRunner for tests, without an engine behind it:
///
///     SHOW JOBS          two fixed rows with a column of every type, one of them NULL
///     SHOW SCHEDULES     one row: what PostgreSQL says current_user and "in transaction" are
///     PAUSE JOB $1       one row: the parameter, and the session's user
///     BACKUP …           a NOTICE, then waits until it is stopped; with "detached" one row at once
///     RESTORE …          waits until PostgreSQL is gone, then one row
///     CANCEL …           fails with 42704
///     [SHOW JOBS]        as a row source becomes a VALUES list of two job ids
class CannedRunner : public sql::StatementRunner {
 public:
  sql::StatementKind recognise(std::string_view statement) const override;
  std::vector<sql::Column> describe(std::string_view statement) override;
  std::size_t parameter_count(std::string_view statement) override;
  void run(std::string_view statement, std::span<const sql::Value> parameters,
           sql::SessionContext& session, sql::RowSink& sink, const Stop& stop) override;
  std::string rewrite(std::string_view statement, sql::SessionContext& session,
                      const Stop& stop) override;
};

}  // namespace holdfast::pgwire
