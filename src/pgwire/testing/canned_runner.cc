#include "pgwire/testing/canned_runner.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"

namespace holdfast::pgwire {

namespace {

using sql::Column;
using sql::ColumnType;

constexpr std::string_view kRowSource = "[SHOW JOBS]";

std::string upper(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return result;
}

bool starts_with_word(std::string_view statement, std::string_view words) {
  return statement.size() >= words.size() &&
         std::equal(words.begin(), words.end(), statement.begin(), [](char word, char c) {
           return word == (c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
         });
}

void show_jobs(sql::RowSink& sink, std::span<const Column> columns) {
  sink.columns(columns);
  sink.row(std::vector<sql::Value>{"42", "BACKUP", "0.5", "t", "2026-11-20 22:30:00.25+00",
                                   R"({"rows": 7})", "\\x00ff", R"({a,"b c",NULL})"});
  sink.row(std::vector<sql::Value>{"43", std::nullopt, "1", "f", "2026-11-20 22:30:00+00",
                                   std::nullopt, std::nullopt, "{}"});
  sink.complete("SHOW 2");
}

}  // namespace

sql::StatementKind CannedRunner::recognise(std::string_view statement) const {
  if (statement.find(kRowSource) != std::string_view::npos) return sql::StatementKind::Rewritten;
  for (std::string_view words :
       {"SHOW JOBS", "SHOW SCHEDULES", "PAUSE JOB", "BACKUP", "RESTORE", "CANCEL"})
    if (starts_with_word(statement, words)) return sql::StatementKind::Ours;
  return sql::StatementKind::NotOurs;
}

std::vector<Column> CannedRunner::describe(std::string_view statement) {
  if (starts_with_word(statement, "SHOW JOBS")) {
    return {{"job_id", ColumnType::Int8},         {"job_type", ColumnType::Text},
            {"fraction", ColumnType::Float8},     {"running", ColumnType::Bool},
            {"created", ColumnType::TimestampTz}, {"details", ColumnType::Jsonb},
            {"key", ColumnType::Bytea},           {"tags", ColumnType::TextArray}};
  }
  if (starts_with_word(statement, "SHOW SCHEDULES"))
    return {{"current_user", ColumnType::Text}, {"in_transaction", ColumnType::Bool}};
  if (starts_with_word(statement, "PAUSE JOB"))
    return {{"parameter", ColumnType::Text}, {"user", ColumnType::Text}};
  if (starts_with_word(statement, "CANCEL")) return {};
  return {{"job_id", ColumnType::Int8}};
}

std::size_t CannedRunner::parameter_count(std::string_view statement) {
  return statement.find("$1") == std::string_view::npos ? 0 : 1;
}

void CannedRunner::run(std::string_view statement, std::span<const sql::Value> parameters,
                       sql::SessionContext& session, sql::RowSink& sink, const Stop& stop) {
  const std::vector<Column> columns = describe(statement);
  if (starts_with_word(statement, "SHOW JOBS")) return show_jobs(sink, columns);
  if (starts_with_word(statement, "CANCEL")) {
    throw Error(sqlstate::kUndefinedObject, "job 1 does not exist")
        .detail("No job has this number.")
        .hint("List the jobs with SHOW JOBS.");
  }
  std::vector<sql::Value> row{"7"};
  if (starts_with_word(statement, "SHOW SCHEDULES")) {
    row = session.query("SELECT current_user").rows.at(0);
    row.emplace_back(session.in_transaction() ? "t" : "f");
  } else if (starts_with_word(statement, "PAUSE JOB")) {
    row = {parameters.empty() ? sql::Value("none") : parameters[0], session.user()};
  } else if (starts_with_word(statement, "RESTORE")) {
    while (session.server_available()) stop.sleep(std::chrono::milliseconds(20));
  } else if (upper(statement).find("DETACHED") == std::string::npos) {
    sink.notice({.message = "backup started", .detail = {}, .hint = {}});
    for (;;) stop.sleep(std::chrono::hours(1));
  }
  sink.columns(columns);
  sink.row(row);
  sink.complete("SELECT 1");
}

std::string CannedRunner::rewrite(std::string_view statement, sql::SessionContext&, const Stop&) {
  std::string text(statement);
  text.replace(text.find(kRowSource), kRowSource.size(),
               "(VALUES (42::bigint), (43::bigint)) AS jobs (job_id)");
  return text;
}

}  // namespace holdfast::pgwire
