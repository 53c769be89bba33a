#include "statements/id_resolver.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>

#include "base/error.h"
#include "sql/row_source.h"

namespace holdfast::statements {

namespace {

std::int64_t to_integer(std::string_view text) {
  // PostgreSQL's int8 input takes white space around the digits and a plus sign too.
  std::string_view digits = text;
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  digits.remove_prefix(std::min(digits.find_first_not_of(kSpace), digits.size()));
  digits = digits.substr(0, digits.find_last_not_of(kSpace) + 1);
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
  std::int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto [at, failure] = std::from_chars(digits.data(), end, value);
  if (failure == std::errc::result_out_of_range) {
    throw Error(SqlState("22003"),
                fmt::format("value \"{}\" is out of range for type bigint", text));
  }
  if (failure != std::errc() || at != end) {
    throw Error(sqlstate::kInvalidTextRepresentation,
                fmt::format("invalid input syntax for type bigint: \"{}\"", text));
  }
  return value;
}

void require_server(sql::SessionContext& session, std::string_view what) {
  if (session.server_available()) return;
  throw Error(sqlstate::kCannotConnectNow,
              fmt::format("could not evaluate the {}: PostgreSQL is down", what))
      .hint("Write the ids as numbers: JOB 42. SHOW JOBS lists them.");
}

}  // namespace

std::optional<std::int64_t> IdResolver::evaluate(const sql::Expression& expression,
                                                 sql::SessionContext& session) const {
  if (expression.kind == sql::Expression::Kind::Integer ||
      expression.kind == sql::Expression::Kind::String) {
    return to_integer(expression.value);
  }
  require_server(session, "id");
  const sql::QueryResult result =
      session.query(fmt::format("SELECT ({})::pg_catalog.int8", expression.source));
  if (result.rows.size() != 1 || result.rows[0].size() != 1) {
    throw Error(sqlstate::kSyntaxError, "the id must be one value");
  }
  if (!result.rows[0][0]) return std::nullopt;
  return to_integer(*result.rows[0][0]);
}

std::vector<std::int64_t> IdResolver::evaluate(const sql::Query& query,
                                               sql::SessionContext& session,
                                               const Stop& stop) const {
  require_server(session, "query for the ids");
  std::string text = query.source;
  if (!sql::find_row_sources(text).empty()) text = runner_.rewrite(text, session, stop);
  const sql::QueryResult result = session.query(text);
  if (result.columns.size() != 1) {
    throw Error(sqlstate::kSyntaxError, "the query for the ids must return one column");
  }
  std::vector<std::int64_t> ids;
  for (const sql::Row& row : result.rows) {
    if (!row[0]) continue;
    const std::int64_t id = to_integer(*row[0]);
    if (std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

}  // namespace holdfast::statements
