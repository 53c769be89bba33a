#include "cli/sql_client.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <istream>
#include <optional>
#include <ostream>

#include "base/error.h"
#include "postgres/connection.h"
#include "sql/split.h"

namespace holdfast::cli {

namespace {

/// Columns on a terminal that the text takes: its UTF-8 characters, counted as one each.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string padded(std::string_view text, std::size_t to) {
  return std::string(text) + std::string(to - std::min(to, width(text)), ' ');
}

void print(const postgres::QueryResult& result, std::ostream& out) {
  if (result.columns() == 0) {
    out << result.command_tag() << '\n';
    return;
  }
  std::vector<std::size_t> widths;
  for (std::size_t column = 0; column < result.columns(); ++column) {
    std::size_t most = width(result.column_name(column));
    for (std::size_t row = 0; row < result.rows(); ++row)
      most = std::max(most, width(result.text(row, column)));
    widths.push_back(most);
  }
  for (std::size_t column = 0; column < result.columns(); ++column) {
    out << (column == 0 ? " " : " | ") << padded(result.column_name(column), widths[column]);
  }
  out << '\n';
  for (std::size_t column = 0; column < result.columns(); ++column) {
    out << (column == 0 ? "-" : "-+-") << std::string(widths[column], '-');
  }
  out << "-\n";
  for (std::size_t row = 0; row < result.rows(); ++row) {
    for (std::size_t column = 0; column < result.columns(); ++column) {
      out << (column == 0 ? " " : " | ") << padded(result.text(row, column), widths[column]);
    }
    out << '\n';
  }
  out << fmt::format("({} {})\n", result.rows(), result.rows() == 1 ? "row" : "rows");
}

void print(const Error& error, std::ostream& errors) {
  errors << "ERROR: " << error.message() << "\nSQLSTATE: " << error.state().view() << '\n';
  if (!error.detail().empty()) errors << "DETAIL: " << error.detail() << '\n';
  if (!error.hint().empty()) errors << "HINT: " << error.hint() << '\n';
}

/// Each statement of `text` by itself, as at a prompt: BACKUP cannot run in the transaction that
/// several statements of one message would share.
bool execute(postgres::Connection& connection, std::string_view text, std::ostream& out,
             std::ostream& errors) {
  for (const sql::TextRange& range : sql::split(text)) {
    try {
      print(connection.simple_query(std::string(range.of(text)), Stop::never()), out);
      out.flush();
    } catch (const Error& error) {
      print(error, errors);
      return false;
    }
  }
  return true;
}

void prompt(bool terminal, std::string_view text, std::ostream& out) {
  if (terminal) out << text << std::flush;
}

bool read_and_execute(postgres::Connection& connection, std::istream& in, std::ostream& out,
                      std::ostream& errors) {
  bool terminal = ::isatty(STDIN_FILENO) == 1;
  bool all_well = true;
  std::string text;
  std::string line;
  prompt(terminal, "holdfast> ", out);
  while (std::getline(in, line)) {
    if (text.empty() && (line == "quit" || line == "exit" || line == "\\q")) return all_well;
    text += line + '\n';
    std::size_t last = line.find_last_not_of(" \t\r");
    if (last != std::string::npos && line[last] == ';') {
      all_well = execute(connection, text, out, errors) && all_well;
      text.clear();
      if (!connection.healthy()) return false;
    }
    prompt(terminal, text.empty() ? "holdfast> " : "       -> ", out);
  }
  return execute(connection, text, out, errors) && all_well;
}

}  // namespace

int run_sql_client(const SqlClientOptions& options, std::istream& in, std::ostream& out,
                   std::ostream& errors) {
  try {
    postgres::Connection connection =
        postgres::Connection::open({.conninfo = options.url,
                                    .database = {},
                                    .notice = [&errors](std::string_view text) { errors << text; },
                                    .interactive = true,
                                    .settings = {}},
                                   Stop::never());
    if (options.statements.empty()) return read_and_execute(connection, in, out, errors) ? 0 : 1;
    for (const std::string& statement : options.statements) {
      if (!execute(connection, statement, out, errors)) return 1;
    }
    return 0;
  } catch (const Error& error) {
    print(error, errors);
    return 1;
  }
}

}  // namespace holdfast::cli
