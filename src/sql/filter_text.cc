#include "sql/filter_text.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "sql/lexer.h"

namespace holdfast::sql {
namespace {

Error invalid(std::string_view why) {
  return Error(sqlstate::kSyntaxError, fmt::format("invalid filter in option where: {}", why))
      .hint("Give one condition on the columns of the table, as after WHERE.");
}

std::vector<Token> tokens_of(std::string_view filter) {
  try {
    return lex(filter);
  } catch (const Error& error) {
    // Without the position, which would be taken for one in the statement.
    throw invalid(error.message());
  }
}

}  // namespace

void check_filter_text(std::string_view filter) {
  if (filter.find('\0') != std::string_view::npos) throw invalid("it has a byte of value zero");
  std::string open;
  std::size_t count = 0;
  for (const Token& token : tokens_of(filter)) {
    if (token.kind == Token::Kind::End) break;
    ++count;
    if (token.symbol(";")) throw invalid("it ends in \";\", or is more than one statement");
    if (token.symbol("(") || token.symbol("[")) open += token.text;
    if (!token.symbol(")") && !token.symbol("]")) continue;
    const char opening = token.text == ")" ? '(' : '[';
    if (open.empty() || open.back() != opening) {
      throw invalid(fmt::format("\"{}\" closes nothing", token.text));
    }
    open.pop_back();
  }
  if (!open.empty()) throw invalid(fmt::format("\"{}\" is not closed", open.back()));
  if (count == 0) throw invalid("it is empty");
}

}  // namespace holdfast::sql
