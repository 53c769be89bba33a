#pragma once

#include <cstddef>
#include <string_view>

namespace holdfast::sql {

/// A lexical piece of a text, in bytes. White space and comments are no pieces.
struct Piece {
  enum class Kind {
    Word,        ///< identifier or keyword
    QuotedName,  ///< "…" or U&"…"
    String,      ///< '…', E'…', B'…', X'…', N'…', U&'…' or $tag$…$tag$
    Number,      ///< the digits and letters after a digit; signs, points and exponents are apart
    Parameter,   ///< $n
    Symbol,      ///< one other character
    End,         ///< the text is over
    Broken,      ///< an open string, name or comment: the rest of the text
  };

  Kind kind = Kind::End;
  std::size_t offset = 0;
  std::size_t end = 0;

  std::string_view of(std::string_view text) const { return text.substr(offset, end - offset); }
  bool is(char symbol, std::string_view text) const {
    return kind == Kind::Symbol && text[offset] == symbol;
  }
};

/// Walks over any SQL text and tells only where its pieces begin and end, without copies or
/// allocation: for texts that merely pass through, whatever the server's version makes of their
/// numbers and operators. Strings are read as with standard_conforming_strings = on.
/// Source: PostgreSQL src/backend/parser/scan.l, versions 13 to 18.
class Skimmer {
 public:
  explicit Skimmer(std::string_view text, std::size_t offset = 0)
      : text_(text), position_(offset) {}

  Piece next();
  /// Where the next piece is looked for.
  std::size_t position() const { return position_; }

 private:
  bool skip_blanks();
  Piece take(Piece::Kind kind, std::size_t offset, std::size_t end);
  Piece dollar(std::size_t offset);
  std::size_t quoted_end(std::size_t open, bool escapes) const;
  std::size_t escape_string_end(std::size_t open) const;

  std::string_view text_;
  std::size_t position_;
};

/// True when the piece is this word, in any case. `lower` is in lower case.
bool word_is(std::string_view word, std::string_view lower);

/// Index after the comment that begins at `offset` ("--" or "/*", nested), or npos when it is open.
std::size_t comment_end(std::string_view text, std::size_t offset);

constexpr bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

}  // namespace holdfast::sql
