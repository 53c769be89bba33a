#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "base/error.h"
#include "sql/bind.h"
#include "sql/columns.h"
#include "sql/filter_text.h"
#include "sql/parser.h"
#include "sql/printer.h"
#include "sql/recognise.h"
#include "sql/row_source.h"
#include "sql/split.h"

namespace {

namespace sql = holdfast::sql;

/// Long enough not to turn up in a statement by chance.
constexpr std::string_view kPassphrase = "correct-horse-battery-staple";

std::optional<sql::Statement> parse(std::string_view text) {
  try {
    return sql::parse(text);
  } catch (const holdfast::Error& error) {
    HF_ASSERT(error.position() >= 1);
    return std::nullopt;
  }
}

void check_pieces(std::string_view text) {
  std::size_t end = 0;
  for (const sql::TextRange& range : sql::split(text)) {
    HF_ASSERT(range.offset >= end && range.length > 0 &&
              range.offset + range.length <= text.size());
    end = range.offset + range.length;
  }
}

void check_row_sources(std::string_view text) {
  std::vector<sql::RowSource> sources = sql::find_row_sources(text);
  std::vector<sql::QueryResult> results(sources.size());
  for (sql::QueryResult& result : results) result.columns = {{"a", sql::ColumnType::Text}};
  std::size_t end = 0;
  for (const sql::RowSource& source : sources) {
    HF_ASSERT(source.range.offset >= end);
    end = source.range.offset + source.range.length;
    HF_ASSERT(end <= text.size() && source.statement.offset + source.statement.length < end);
  }
  std::string replaced = sql::replace_row_sources(text, sources, results);
  HF_ASSERT(replaced.size() >= text.size() || !sources.empty());
}

void check_statement(const sql::Statement& statement) {
  std::string printed = sql::print(statement, sql::Redact::Nothing);
  std::optional<sql::Statement> again = parse(printed);
  HF_ASSERT(again && *again == statement);
  sql::columns_of(statement);
  sql::print(statement, sql::Redact::Secrets);
  sql::Statement bound = statement;
  std::vector<sql::Value> values(sql::parameter_count(statement), "x\\'");
  sql::bind_parameters(bound, values);
  HF_ASSERT(sql::parameter_count(bound) == 0);
}

/// Whatever follows it, a passphrase in a string is not shown.
void check_secret(std::string_view text) {
  if (text.find(kPassphrase) != std::string_view::npos) return;
  for (std::string_view quote : {"'", "$$"}) {
    std::string statement = "BACKUP INTO 'x' WITH encryption_passphrase = ";
    statement.append(quote).append(kPassphrase).append(quote).append(text);
    HF_ASSERT(sql::redact_text(statement).find(kPassphrase) == std::string::npos);
  }
}

/// What is taken for a filter stays between parentheses.
void check_filter(std::string_view text) {
  try {
    sql::check_filter_text(text);
  } catch (const holdfast::Error&) {
    return;
  }
  sql::check_filter_text("(" + std::string(text) + "\n)");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  sql::recognise(text);
  check_pieces(text);
  check_row_sources(text);
  sql::redact_text(text);
  sql::redact_uri(text);
  sql::redact_kms_uri(text);
  check_secret(text);
  check_filter(text);
  if (std::optional<sql::Statement> statement = parse(text)) check_statement(*statement);
  return 0;
}
