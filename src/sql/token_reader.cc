#include "sql/token_reader.h"

#include <fmt/format.h>
#include <pg_query.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "sql/row_source.h"

namespace holdfast::sql {
namespace {

int parameter_number(const TokenReader& reader, const Token& token) {
  int number = 0;
  const char* end = token.text.data() + token.text.size();
  std::from_chars_result result = std::from_chars(token.text.data(), end, number);
  // The protocol counts parameters in 16 bits.
  if (result.ec != std::errc() || result.ptr != end || number < 1 || number > 65535) reader.fail();
  return number;
}

bool is_string(const Token& token) { return token.kind == Token::Kind::String; }

bool all_digits(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

const Token& TokenReader::peek(std::size_t ahead) const {
  return tokens_[std::min(next_ + ahead, tokens_.size() - 1)];
}

bool TokenReader::at(std::initializer_list<std::string_view> words) const {
  std::size_t ahead = 0;
  return std::all_of(words.begin(), words.end(),
                     [&](std::string_view word) { return peek(ahead++).word(word); });
}

bool TokenReader::accept(std::initializer_list<std::string_view> words) {
  if (!at(words)) return false;
  next_ += words.size();
  return true;
}

void TokenReader::expect(std::initializer_list<std::string_view> words) {
  for (std::string_view word : words) {
    if (!accept({word})) fail();
  }
}

bool TokenReader::accept_symbol(std::string_view symbol) {
  if (!peek().symbol(symbol)) return false;
  ++next_;
  return true;
}

void TokenReader::expect_symbol(std::string_view symbol) {
  if (!accept_symbol(symbol)) fail();
}

void TokenReader::expect_end() {
  accept_symbol(";");
  if (peek().kind != Token::Kind::End) fail();
}

bool TokenReader::at_text() const {
  return is_string(peek()) || peek().kind == Token::Kind::Parameter;
}

Text TokenReader::expect_text() {
  if (!at_text()) fail();
  const Token& token = peek();
  Text text;
  if (is_string(token)) {
    text.value = token.text;
  } else {
    text.parameter = parameter_number(*this, token);
  }
  ++next_;
  return text;
}

Uris TokenReader::expect_uris() {
  Uris uris;
  if (!accept_symbol("(")) {
    uris.push_back(expect_text());
    return uris;
  }
  do {
    uris.push_back(expect_text());
  } while (accept_symbol(","));
  expect_symbol(")");
  return uris;
}

std::string TokenReader::expect_name() {
  const Token& token = peek();
  bool name = token.kind == Token::Kind::Name;
  if (!name && (token.kind != Token::Kind::Word || token.reserved)) fail();
  ++next_;
  return token.text;
}

std::string TokenReader::expect_label() {
  const Token& token = peek();
  if (token.kind != Token::Kind::Name && token.kind != Token::Kind::Word) fail();
  ++next_;
  return token.text;
}

TokenReader::Slice TokenReader::take_until(const Stop& stop) {
  std::size_t first = next_;
  std::string closing;  // what the open brackets wait for
  for (; peek().kind != Token::Kind::End; ++next_) {
    const Token& token = peek();
    if (closing.empty() && (token.symbol(";") || (next_ > first && stop(*this)))) break;
    if (token.symbol("(")) closing += ')';
    if (token.symbol("[")) closing += ']';
    if (token.symbol(")") || token.symbol("]")) {
      if (closing.empty() || closing.back() != token.text.front()) fail();
      closing.pop_back();
    }
  }
  if (!closing.empty() || next_ == first) fail();
  return {first, next_};
}

/// The tokens as written, with one space where there was anything between them.
std::string TokenReader::source(Slice slice) const {
  std::string source;
  for (std::size_t i = slice.first; i < slice.last; ++i) {
    const Token& token = tokens_[i];
    if (i > slice.first && tokens_[i - 1].end != token.offset) source += ' ';
    source += text_.substr(token.offset, token.end - token.offset);
  }
  return source;
}

Expression TokenReader::expect_expression(const Stop& stop) {
  if (stop(*this)) fail();
  // A comma ends it too, and is then an error to whoever goes on reading.
  Slice slice =
      take_until([&](const TokenReader& at) { return stop(at) || at.peek().symbol(","); });
  Expression expression;
  expression.source = source(slice);
  classify(slice, expression);
  if (expression.kind == Expression::Kind::Source) check_expression(slice);
  return expression;
}

Expression TokenReader::expect_moment(const Stop& stop) {
  const bool lsn = at({"lsn"}) && is_string(peek(1));
  const bool restore_point = at({"restore", "point"}) && is_string(peek(2));
  const bool milestone =
      at({"milestone"}) && (is_string(peek(1)) || peek(1).kind == Token::Kind::Parameter);
  if (milestone) return expect_milestone();
  if (!lsn && !restore_point) return expect_expression(stop);
  Expression expression;
  const std::size_t words = lsn ? 1 : 2;
  expression.kind = lsn ? Expression::Kind::Lsn : Expression::Kind::RestorePoint;
  expression.source = source({.first = next_, .last = next_ + words + 1});
  skip(words);
  expression.value = expect_text().value;
  return expression;
}

Expression TokenReader::expect_milestone() {
  Expression expression;
  expression.kind = Expression::Kind::Milestone;
  const std::size_t first = next_;
  expect({"milestone"});
  const Text name = expect_text();
  expression.source = source({.first = first, .last = next_});
  expression.value = name.value;
  expression.parameter = name.parameter.value_or(0);
  return expression;
}

void TokenReader::classify(Slice slice, Expression& expression) const {
  using Kind = Expression::Kind;
  std::size_t count = slice.last - slice.first;
  const Token& first = tokens_[slice.first];
  auto token = [&](std::size_t i) -> const Token& { return tokens_[slice.first + i]; };
  auto set = [&](Kind kind, std::string value) {
    expression.kind = kind;
    expression.value = std::move(value);
  };
  bool minus = first.symbol("-") && count == 2;
  if (const Token& number = minus ? token(1) : first;
      number.kind == Token::Kind::Number && count == (minus ? 2 : 1)) {
    set(all_digits(number.text) ? Kind::Integer : Kind::Decimal, (minus ? "-" : "") + number.text);
  } else if (count == 1 && is_string(first)) {
    set(Kind::String, first.text);
  } else if (count == 1 && first.kind == Token::Kind::Parameter) {
    expression.kind = Kind::Parameter;
    expression.parameter = parameter_number(*this, first);
  } else if (count == 2 && first.word("interval") && is_string(token(1))) {
    set(Kind::Interval, token(1).text);
  } else if (count == 3 && is_string(first) && token(1).symbol("::") && token(2).word("interval")) {
    set(Kind::Interval, first.text);
  } else if (count == 3 && !first.reserved && token(1).symbol("(") && token(2).symbol(")") &&
             (first.kind == Token::Kind::Word || first.kind == Token::Kind::Name)) {
    set(Kind::Function, first.text);
  }
}

/// PostgreSQL's own parser judges what we do not read ourselves, but for row sources, which are not
/// its grammar.
void TokenReader::check_expression(Slice slice) const {
  const std::string prefix = "SELECT (";
  std::size_t begin = tokens_[slice.first].offset;
  std::size_t end = tokens_[slice.last - 1].end;
  std::string query = prefix + std::string(text_.substr(begin, end - begin)) + ")";
  if (!find_row_sources(query).empty()) return;
  PgQueryProtobufParseResult result = pg_query_parse_protobuf(query.c_str());
  int position = result.error == nullptr ? 0 : result.error->cursorpos;
  pg_query_free_protobuf_parse_result(result);
  if (position == 0) return;
  // Our own words for the token there: the parser's message may quote a secret.
  int in_text = character_position(text_, begin) + position - 1 - static_cast<int>(prefix.size());
  TokenReader wrong = *this;
  for (wrong.next_ = slice.first; wrong.next_ < slice.last; ++wrong.next_) {
    if (character_position(text_, wrong.peek().offset) >= in_text) break;
  }
  wrong.fail();
}

bool TokenReader::at_query() const {
  return at({"select"}) || at({"with"}) || at({"values"}) || at({"table"}) || peek().symbol("(");
}

Query TokenReader::expect_query(const Stop& stop) {
  if (!at_query()) fail();
  return {source(take_until(stop))};
}

void TokenReader::fail() const {
  const Token& token = peek();
  if (token.kind == Token::Kind::End) fail("syntax error at end of input");
  std::string_view spelling = text_.substr(token.offset, token.end - token.offset);
  if (is_string(token)) spelling = "'*****'";
  fail(fmt::format("syntax error at or near \"{}\"", spelling));
}

void TokenReader::fail(std::string message) const {
  throw Error(sqlstate::kSyntaxError, std::move(message))
      .position(character_position(text_, peek().offset));
}

}  // namespace holdfast::sql
