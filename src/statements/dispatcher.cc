#include "statements/dispatcher.h"

#include <fmt/format.h>

#include <typeinfo>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "sql/bind.h"
#include "sql/columns.h"
#include "sql/printer.h"
#include "sql/recognise.h"
#include "sql/row_source.h"
#include "statements/statement_name.h"

namespace holdfast::statements {

namespace {

/// Keeps the rows of a statement that is used as a table.
class Collector final : public sql::RowSink {
 public:
  explicit Collector(sql::QueryResult& result) : result_(result) {}

  void columns(std::span<const sql::Column> columns) override {
    result_.columns.assign(columns.begin(), columns.end());
  }
  void row(std::span<const sql::Value> values) override {
    result_.rows.emplace_back(values.begin(), values.end());
  }
  // The session gets the rows only: PostgreSQL sends what else it has to hear.
  void notice(const sql::Notice& notice) override { log::info("{}", notice.message); }
  void complete(std::string_view) override {}

 private:
  sql::QueryResult& result_;
};

}  // namespace

sql::StatementKind Dispatcher::recognise(std::string_view statement) const {
  return sql::recognise(statement);
}

std::vector<sql::Column> Dispatcher::describe(std::string_view statement) {
  return sql::columns_of(*cache_.parse(statement));
}

std::size_t Dispatcher::parameter_count(std::string_view statement) {
  return sql::parameter_count(*cache_.parse(statement));
}

void Dispatcher::run(std::string_view statement, std::span<const sql::Value> parameters,
                     sql::SessionContext& session, sql::RowSink& sink, const Stop& stop) {
  const std::shared_ptr<const sql::Statement> parsed = cache_.parse(statement);
  if (sql::parameter_count(*parsed) == 0) return execute(*parsed, session, sink, stop);
  sql::Statement bound = *parsed;
  sql::bind_parameters(bound, parameters);
  execute(bound, session, sink, stop);
}

void Dispatcher::execute(const sql::Statement& statement, sql::SessionContext& session,
                         sql::RowSink& sink, const Stop& stop) {
  const auto& type =
      std::visit([](const auto& kind) -> const std::type_info& { return typeid(kind); }, statement);
  const auto found = handlers_.find(type);
  if (found == handlers_.end()) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("{} is not supported yet", name_of(statement)));
  }
  if (log::enabled(log::Level::Debug)) {
    log::debug("executing {}", sql::print(statement, sql::Redact::Secrets));
  }
  found->second(statement, session, sink, stop);
}

std::string Dispatcher::rewrite(std::string_view statement, sql::SessionContext& session,
                                const Stop& stop) {
  const std::vector<sql::RowSource> sources = sql::find_row_sources(statement);
  std::vector<sql::QueryResult> results;
  results.reserve(sources.size());
  for (const sql::RowSource& source : sources) {
    const std::shared_ptr<const sql::Statement> parsed =
        cache_.parse(source.statement.of(statement));
    if (sql::columns_of(*parsed).empty()) {
      throw Error(
          sqlstate::kSyntaxError,
          fmt::format("{} returns no rows and cannot be used as a table", name_of(*parsed)));
    }
    if (sql::parameter_count(*parsed) > 0) {
      throw Error(sqlstate::kFeatureNotSupported,
                  fmt::format("parameters inside {} that is used as a table are not supported",
                              name_of(*parsed)))
          .hint("Put the parameters into the query around it, or write the value itself.");
    }
    Collector collector(results.emplace_back());
    execute(*parsed, session, collector, stop);
  }
  return sql::replace_row_sources(statement, sources, results);
}

}  // namespace holdfast::statements
