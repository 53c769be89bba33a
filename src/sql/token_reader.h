#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "sql/lexer.h"
#include "sql/statements.h"

namespace holdfast::sql {

/// The tokens of one statement, read from left to right: the parser's vocabulary. What is
/// "expected" and not there is a syntax error at that token.
class TokenReader {
 public:
  explicit TokenReader(std::string_view text) : text_(text), tokens_(lex(text)) {}

  const Token& peek(std::size_t ahead = 0) const;
  /// True when the next words are these, in this order.
  bool at(std::initializer_list<std::string_view> words) const;
  /// Takes these words if they come next, all or none.
  bool accept(std::initializer_list<std::string_view> words);
  void expect(std::initializer_list<std::string_view> words);
  bool accept_symbol(std::string_view symbol);
  void expect_symbol(std::string_view symbol);
  void skip(std::size_t tokens) { next_ += tokens; }
  /// Nothing may follow but one `;`.
  void expect_end();

  bool at_text() const;
  Text expect_text();
  Uris expect_uris();
  /// A name as a table has it: not a reserved word, unless quoted.
  std::string expect_name();
  /// A name after a point: any word.
  std::string expect_label();

  using Stop = std::function<bool(const TokenReader&)>;
  /// A scalar expression up to the end, or to where `stop` holds outside brackets.
  Expression expect_expression(const Stop& stop);
  /// The same, or LSN 's', RESTORE POINT 's' or MILESTONE 's'.
  Expression expect_moment(const Stop& stop);
  /// MILESTONE 's'
  Expression expect_milestone();
  bool at_query() const;
  Query expect_query(const Stop& stop);

  /// A syntax error at the next token. Strings are not quoted: they may be secrets.
  [[noreturn]] void fail() const;
  /// Another error, at the next token.
  [[noreturn]] void fail(std::string message) const;

 private:
  struct Slice {
    std::size_t first;
    std::size_t last;  // behind the last token
  };
  Slice take_until(const Stop& stop);
  std::string source(Slice slice) const;
  void check_expression(Slice slice) const;
  void classify(Slice slice, Expression& expression) const;

  std::string_view text_;
  std::vector<Token> tokens_;
  std::size_t next_ = 0;
};

/// For an expression that only the statement's end ends.
inline bool never(const TokenReader&) { return false; }

}  // namespace holdfast::sql
