#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/sqlstate.h"

namespace holdfast::sql {

/// The PostgreSQL types that our statements return.
enum class ColumnType { Int8, Float8, Text, Bool, TimestampTz, Jsonb, Bytea, TextArray };

struct Column {
  std::string name;
  ColumnType type = ColumnType::Text;
};

/// A value in PostgreSQL's text output format; absent is NULL.
using Value = std::optional<std::string>;
using Row = std::vector<Value>;

struct Notice {
  std::string_view severity = "NOTICE";  // or WARNING, INFO
  SqlState state = sqlstate::kSuccess;
  std::string message;
  std::string detail = {};
  std::string hint = {};
};

/// Receives the result of one statement, in this order: columns() once if the statement returns
/// rows, row() for each, notice() at any time, complete() once at the end. A failure is thrown by
/// the statement, not reported here.
class RowSink {
 public:
  virtual ~RowSink() = default;
  virtual void columns(std::span<const Column> columns) = 0;
  virtual void row(std::span<const Value> values) = 0;
  virtual void notice(const Notice& notice) = 0;
  /// `tag` is the CommandComplete tag: "BACKUP", "SHOW 3", "PAUSE JOBS 1".
  virtual void complete(std::string_view tag) = 0;
};

/// What a query gave back, in full: for small results only.
struct QueryResult {
  std::vector<Column> columns;
  std::vector<Row> rows;
};

}  // namespace holdfast::sql
