#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "sql/row_sink.h"
#include "sql/statement_runner.h"

namespace holdfast::statements::testing {

/// A session without a server: it answers questions about who the user is from its members, and
/// every other query with the next of `answers`.
class FakeSession final : public sql::SessionContext {
 public:
  std::string name = "ann";
  bool administrator = false;  ///< a superuser or member of holdfast_admin
  bool local = false;
  bool available = true;
  bool transaction = false;
  std::deque<sql::QueryResult> answers;
  std::vector<std::string> queries;  ///< those that were answered from `answers`

  const std::string& user() const override { return name; }
  const std::string& database() const override { return database_; }
  bool local_administrator() const override { return local; }
  bool server_available() const override { return available; }
  bool in_transaction() const override { return transaction; }
  sql::QueryResult query(std::string_view text) override {
    if (!available) throw Error(sqlstate::kCannotConnectNow, "PostgreSQL is down");
    if (text == "SELECT current_user") return one(name);
    if (text.find("rolsuper") != std::string_view::npos) return one(administrator ? "t" : "f");
    queries.emplace_back(text);
    if (answers.empty()) throw Error(sqlstate::kInternalError, "no answer for " + queries.back());
    sql::QueryResult answer = answers.front();
    answers.pop_front();
    return answer;
  }

  /// A result of one column.
  static sql::QueryResult column(const std::vector<std::optional<std::string>>& values) {
    sql::QueryResult result;
    result.columns = {{"column", sql::ColumnType::Text}};
    for (const auto& value : values) result.rows.push_back({value});
    return result;
  }
  static sql::QueryResult one(std::string value) { return column({std::move(value)}); }

 private:
  std::string database_ = "bank";
};

/// Keeps what a statement answered.
class RecordingSink final : public sql::RowSink {
 public:
  std::vector<std::string> names;
  std::vector<sql::Row> rows;
  std::vector<std::string> notices;
  std::string tag;

  void columns(std::span<const sql::Column> columns) override {
    for (const sql::Column& column : columns) names.push_back(column.name);
  }
  void row(std::span<const sql::Value> values) override {
    rows.emplace_back(values.begin(), values.end());
  }
  void notice(const sql::Notice& notice) override { notices.push_back(notice.message); }
  void complete(std::string_view text) override { tag = text; }

  /// The value of a named column; fails the test's expectation by being "(no such column)".
  sql::Value at(std::size_t row, std::string_view name) const {
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (names[i] == name) return rows.at(row).at(i);
    }
    return "(no such column)";
  }
};

}  // namespace holdfast::statements::testing
