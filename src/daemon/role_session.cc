#include "daemon/role_session.h"

#include <fmt/format.h>

#include "base/error.h"

namespace holdfast::daemon {
namespace {

postgres::ConnectOptions connect_options(Instance& instance, const std::string& database) {
  postgres::ConnectOptions options{.conninfo = instance.conninfo()};
  if (!database.empty()) options.database = database;
  return options;
}

}  // namespace

RoleSession::RoleSession(Instance& instance, RoleSessionOptions options, const Stop& stop)
    : instance_(instance),
      options_(std::move(options)),
      stop_(stop),
      connection_(postgres::Connection::open(connect_options(instance, options_.database), stop)) {
  if (connection_.query("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", {options_.role}, stop)
          .rows() == 0) {
    throw Error(sqlstate::kUndefinedObject,
                fmt::format("role \"{}\" does not exist", options_.role));
  }
  connection_.query("SET ROLE " + postgres::quote_identifier(options_.role), stop);
}

sql::QueryResult RoleSession::query(std::string_view text) {
  const postgres::QueryResult answer = connection_.query(std::string(text), stop_);
  sql::QueryResult result;
  for (std::size_t column = 0; column < answer.columns(); ++column) {
    result.columns.push_back({answer.column_name(column), sql::ColumnType::Text});
  }
  for (std::size_t row = 0; row < answer.rows(); ++row) {
    sql::Row& values = result.rows.emplace_back();
    for (std::size_t column = 0; column < answer.columns(); ++column) {
      values.push_back(answer.value(row, column));
    }
  }
  return result;
}

}  // namespace holdfast::daemon
