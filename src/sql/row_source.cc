#include "sql/row_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

#include "base/assert.h"
#include "sql/lexer.h"
#include "sql/recognise.h"
#include "sql/skim.h"

namespace holdfast::sql {
namespace {

bool is_word(const Piece& piece, std::string_view text, std::string_view lower) {
  return piece.kind == Piece::Kind::Word && word_is(piece.of(text), lower);
}

/// Remembers the last pieces, to know what stands before a bracket.
class Before {
 public:
  void push(const Piece& piece) {
    std::move(pieces_.begin() + 1, pieces_.end(), pieces_.begin());
    pieces_.back() = piece;
  }
  const Piece& last() const { return pieces_.back(); }

  /// AS, AS MATERIALIZED or AS NOT MATERIALIZED: the head of a WITH item.
  bool opens_common_table(std::string_view text) const {
    auto piece = pieces_.rbegin();
    if (is_word(*piece, text, "materialized")) {
      ++piece;
      if (is_word(*piece, text, "not")) ++piece;
    }
    return is_word(*piece, text, "as");
  }

 private:
  std::array<Piece, 3> pieces_{};
};

/// Offset of the bracket that closes the one before the skimmer's position; npos when none does.
std::size_t find_close(Skimmer skimmer, std::string_view text, char close) {
  std::string closing(1, close);
  for (Piece piece = skimmer.next();
       piece.kind != Piece::Kind::End && piece.kind != Piece::Kind::Broken;
       piece = skimmer.next()) {
    if (piece.kind != Piece::Kind::Symbol) continue;
    char c = text[piece.offset];
    if (c == '(') closing += ')';
    if (c == '[') closing += ']';
    if (c != ')' && c != ']') continue;
    if (c != closing.back()) return std::string_view::npos;
    closing.pop_back();
    if (closing.empty()) return piece.offset;
  }
  return std::string_view::npos;
}

std::string_view type_name(ColumnType type) {
  switch (type) {
    case ColumnType::Int8:
      return "pg_catalog.int8";
    case ColumnType::Float8:
      return "pg_catalog.float8";
    case ColumnType::Text:
      return "pg_catalog.text";
    case ColumnType::Bool:
      return "pg_catalog.bool";
    case ColumnType::TimestampTz:
      return "pg_catalog.timestamptz";
    case ColumnType::Jsonb:
      return "pg_catalog.jsonb";
    case ColumnType::Bytea:
      return "pg_catalog.bytea";
    case ColumnType::TextArray:
      return "pg_catalog.text[]";
  }
  return "pg_catalog.text";
}

std::string select_nothing(const std::vector<Column>& columns) {
  std::string text = "SELECT ";
  std::string_view before = "";
  for (const Column& column : columns) {
    text += fmt::format("{}NULL::{} AS {}", before, type_name(column.type),
                        quote_identifier(column.name));
    before = ", ";
  }
  return text + " WHERE false";
}

/// A SELECT with the rows. The casts of the first row give the columns their types: PostgreSQL
/// resolves the plain literals below to them.
std::string select_rows(const QueryResult& result) {
  const std::vector<Column>& columns = result.columns;
  if (result.rows.empty()) return select_nothing(columns);
  std::string text = "SELECT * FROM (VALUES ";
  for (const Row& row : result.rows) {
    HF_ASSERT(row.size() == columns.size());
    bool first = &row == &result.rows.front();
    text += first ? "(" : ", (";
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) text += ", ";
      text += row[i] ? quote_literal(*row[i]) : "NULL";
      if (first) fmt::format_to(std::back_inserter(text), "::{}", type_name(columns[i].type));
    }
    text += ')';
  }
  text += ") AS holdfast_values (";
  std::string_view before = "";
  for (const Column& column : columns) {
    text.append(before).append(quote_identifier(column.name));
    before = ", ";
  }
  return text + ')';
}

/// An alias, with or without AS, is any name but the reserved words, which go on with the query.
bool alias_follows(std::string_view query, std::size_t offset) {
  Piece piece = Skimmer(query, offset).next();
  if (piece.kind == Piece::Kind::QuotedName) return true;
  return piece.kind == Piece::Kind::Word &&
         (word_is(piece.of(query), "as") || !is_reserved(piece.of(query)));
}

/// The table of ours at a word: information_schema.mv_…, unless it is part of a column's name.
std::optional<RowSource> view_at(std::string_view query, const Piece& word, const Before& before) {
  if (!is_word(word, query, "information_schema")) return std::nullopt;
  const Piece& last = before.last();
  const bool as_table = last.is(',', query) || last.is('(', query) ||
                        is_word(last, query, "from") || is_word(last, query, "join") ||
                        is_word(last, query, "table");
  if (!as_table) return std::nullopt;
  Skimmer skimmer(query, word.end);
  if (!skimmer.next().is('.', query)) return std::nullopt;
  const Piece name = skimmer.next();
  for (const std::string_view view : {"mv_backup_history", "mv_backup_status", "mv_milestones"}) {
    if (!is_word(name, query, view)) continue;
    if (skimmer.next().is('.', query)) return std::nullopt;
    const bool whole = is_word(last, query, "table");
    const std::size_t start = whole ? last.offset : word.offset;
    return RowSource{.range = {start, name.end - start},
                     .statement = {word.offset, name.end - word.offset},
                     .whole_query = whole,
                     .alias = std::string(view)};
  }
  return std::nullopt;
}

}  // namespace

std::vector<RowSource> find_row_sources(std::string_view query) {
  std::vector<RowSource> sources;
  Skimmer skimmer(query);
  Before before;
  for (;;) {
    Piece piece = skimmer.next();
    if (piece.kind == Piece::Kind::End) return sources;
    if (piece.kind == Piece::Kind::Broken) return {};
    if (std::optional<RowSource> view = view_at(query, piece, before)) {
      skimmer = Skimmer(query, view->range.offset + view->range.length);
      sources.push_back(*std::move(view));
      before.push(piece);
      continue;
    }
    bool table = piece.is('[', query);
    bool with = piece.is('(', query) && before.opens_common_table(query);
    if ((table || with) && is_word(Skimmer(query, piece.end).next(), query, "show")) {
      std::size_t close = find_close(Skimmer(query, piece.end), query, table ? ']' : ')');
      if (close == std::string_view::npos) return {};
      TextRange statement = {piece.end, close - piece.end};
      if (recognise(statement.of(query)) == StatementKind::Ours) {
        // TABLE [SHOW …] stands for SELECT * FROM [SHOW …].
        bool whole = table && is_word(before.last(), query, "table");
        std::size_t start = whole ? before.last().offset : piece.offset;
        sources.push_back({.range = {start, close + 1 - start},
                           .statement = statement,
                           .common_table_expression = with,
                           .whole_query = whole});
        skimmer = Skimmer(query, close + 1);
      }
    }
    before.push(piece);
  }
}

std::string replace_row_sources(std::string_view query, std::span<const RowSource> sources,
                                std::span<const QueryResult> results) {
  HF_ASSERT(sources.size() == results.size());
  std::string text;
  std::size_t copied = 0;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const RowSource& source = sources[i];
    std::size_t end = source.range.offset + source.range.length;
    text += query.substr(copied, source.range.offset - copied);
    // The blanks: FROM[SHOW JOBS]WHERE is good SQL too.
    text += source.whole_query ? "SELECT * FROM (" : " (";
    text += select_rows(results[i]) + ')';
    if (!source.common_table_expression && !alias_follows(query, end)) {
      text += source.alias.empty() ? fmt::format(" AS holdfast_rows_{} ", i + 1)
                                   : fmt::format(" AS {} ", source.alias);
    }
    copied = end;
  }
  return text.append(query.substr(copied));
}

}  // namespace holdfast::sql
