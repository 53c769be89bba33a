#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::sql {

/// One token of a statement of ours, by PostgreSQL 15's own scanner.
struct Token {
  enum class Kind {
    Word,       ///< identifier or keyword: `text` is folded to lower case
    Name,       ///< quoted identifier: `text` is its content
    String,     ///< string literal of any spelling but B'' and X'': `text` is its decoded content
    Number,     ///< `text` as written; no sign
    Parameter,  ///< $n: `text` is n
    Symbol,     ///< operator or punctuation, also B'' and X'': `text` as written
    End,
  };

  Kind kind = Kind::End;
  std::string text;
  bool reserved = false;   ///< Word that cannot name a table: reserved, or a type or function name
  std::size_t offset = 0;  ///< bytes
  std::size_t end = 0;

  bool word(std::string_view lower) const { return kind == Kind::Word && text == lower; }
  bool symbol(std::string_view value) const { return kind == Kind::Symbol && text == value; }
};

/// The tokens of `text` without comments; the last one has kind End. Thread-safe. Throws Error
/// 42601 with a position where the text breaks the lexical rules; its message does not quote
/// strings.
std::vector<Token> lex(std::string_view text);

/// True for a word that PostgreSQL does not take as a table's name or alias without quotes.
/// `word` is an identifier in any case.
bool is_reserved(std::string_view word);

/// 1-based position in characters of a byte of UTF-8 text.
int character_position(std::string_view text, std::size_t offset);

/// The text as a string literal that reads the same whatever standard_conforming_strings is.
std::string quote_literal(std::string_view text);

/// The name as an identifier, in quotes where it needs them.
std::string quote_identifier(std::string_view name);

}  // namespace holdfast::sql
