#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/stop.h"
#include "sql/statement_runner.h"
#include "sql/statements.h"

namespace holdfast::statements {

/// Finds the ids of jobs or schedules that a statement addresses. What is more than a literal is
/// evaluated by the session's PostgreSQL, as the session's user.
class IdResolver {
 public:
  /// `runner` rewrites queries that use our SHOW statements as tables.
  explicit IdResolver(sql::StatementRunner& runner) : runner_(runner) {}

  /// Absent for NULL. Throws 22P02 for what is no 64-bit integer, and kCannotConnectNow when it
  /// takes PostgreSQL to evaluate it and that is down.
  std::optional<std::int64_t> evaluate(const sql::Expression& expression,
                                       sql::SessionContext& session) const;
  /// The values of the query's only column, in its order, without NULLs and repetitions.
  std::vector<std::int64_t> evaluate(const sql::Query& query, sql::SessionContext& session,
                                     const Stop& stop) const;

 private:
  sql::StatementRunner& runner_;
};

}  // namespace holdfast::statements
