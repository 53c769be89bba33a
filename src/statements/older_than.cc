#include "statements/older_than.h"

#include <fmt/format.h>

#include <optional>
#include <string>

#include "base/error.h"
#include "sql/lexer.h"
#include "statements/as_of.h"

namespace holdfast::statements {

namespace {

std::optional<Time> read(const sql::Expression& expression, Time now) {
  sql::Expression moment = expression;
  if (expression.kind == sql::Expression::Kind::Interval ||
      expression.kind == sql::Expression::Kind::String) {
    if (expression.kind == sql::Expression::Kind::String) {
      if (const auto time = parse_timestamp(expression.value)) return time;
    }
    if (!moment.value.starts_with('-')) moment.value = fmt::format("-{}", moment.value);
    moment.kind = sql::Expression::Kind::Interval;
  } else if (expression.kind != sql::Expression::Kind::Integer &&
             expression.kind != sql::Expression::Kind::Decimal) {
    return std::nullopt;
  }
  try {
    return as_of_time(moment, now);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

Time older_than_time(const sql::Expression& expression, sql::SessionContext& session, Time now) {
  if (const auto time = read(expression, now)) return *time;
  const bool number = expression.kind == sql::Expression::Kind::Integer ||
                      expression.kind == sql::Expression::Kind::Decimal;
  if (number || !session.server_available()) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("invalid value for OLDER THAN: {}", expression.source))
        .hint("Give an age such as '30 days', or a timestamp.");
  }
  const bool age = expression.kind == sql::Expression::Kind::Interval ||
                   expression.kind == sql::Expression::Kind::String;
  const std::string moment =
      age ? fmt::format("pg_catalog.now() OPERATOR(pg_catalog.-) {}::pg_catalog.interval",
                        sql::quote_literal(expression.value))
          : expression.source;
  const sql::QueryResult result = session.query(
      fmt::format("SELECT pg_catalog.to_char(({})::pg_catalog.timestamptz AT TIME ZONE 'UTC',"
                  " 'YYYY-MM-DD HH24:MI:SS.US')",
                  moment));
  const bool one = result.rows.size() == 1 && result.rows[0].size() == 1 && result.rows[0][0];
  const auto time = one ? parse_timestamp(*result.rows[0][0]) : std::nullopt;
  if (!time) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("OLDER THAN must be one moment: {}", expression.source));
  }
  return *time;
}

}  // namespace holdfast::statements
