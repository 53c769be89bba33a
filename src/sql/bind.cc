#include "sql/bind.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "base/error.h"
#include "sql/lexer.h"
#include "sql/skim.h"
#include "sql/target_parser.h"
#include "sql/visit_parts.h"

namespace holdfast::sql {
namespace {

constexpr SqlState kNullValueNotAllowed{"22004"};

std::size_t number_of(std::string_view parameter) {
  std::size_t number = 0;
  std::from_chars(parameter.data() + 1, parameter.data() + parameter.size(), number);
  return number;
}

/// Calls `f` with each $n in a source text, in order.
template <typename F>
void each_parameter(std::string_view source, F&& f) {
  Skimmer skimmer(source);
  for (Piece piece = skimmer.next();
       piece.kind != Piece::Kind::End && piece.kind != Piece::Kind::Broken;
       piece = skimmer.next()) {
    if (piece.kind == Piece::Kind::Parameter) f(piece);
  }
}

class Counter {
 public:
  void operator()(const Text& text) { add(text.parameter.value_or(0)); }
  void operator()(const Subdirectory& subdirectory) { (*this)(subdirectory.path); }
  void operator()(const Query& query) { count(query.source); }
  void operator()(const Expression& expression) { count(expression.source); }

  std::size_t highest() const { return highest_; }

 private:
  void add(std::size_t number) { highest_ = std::max(highest_, number); }
  void count(std::string_view source) {
    each_parameter(source, [&](const Piece& piece) { add(number_of(piece.of(source))); });
  }

  std::size_t highest_ = 0;
};

class Binder {
 public:
  explicit Binder(std::span<const Value> values) : values_(values) {}

  void operator()(Text& text) {
    if (!text.parameter) return;
    text.value = not_null(*text.parameter);
    text.parameter.reset();
  }
  void operator()(Subdirectory& subdirectory) {
    if (!subdirectory.path.parameter) return;
    (*this)(subdirectory.path);
    subdirectory = subdirectory_of(std::move(subdirectory.path));
  }
  void operator()(Query& query) { query.source = replace(query.source); }
  void operator()(Expression& expression) {
    if (expression.kind == Expression::Kind::Milestone && expression.parameter != 0) {
      expression.value = not_null(expression.parameter);
      expression.source = "MILESTONE " + quote_literal(expression.value);
      expression.parameter = 0;
      return;
    }
    if (expression.kind != Expression::Kind::Parameter) {
      expression.source = replace(expression.source);
      return;
    }
    std::string value = not_null(expression.parameter);
    expression = {.kind = Expression::Kind::String,
                  .source = quote_literal(value),
                  .value = value,
                  .parameter = 0};
  }

 private:
  const std::string& not_null(int number) const {
    const Value& value = values_[static_cast<std::size_t>(number) - 1];
    if (!value) {
      throw Error(kNullValueNotAllowed, fmt::format("parameter ${} must not be null", number));
    }
    return *value;
  }

  std::string replace(std::string_view source) const {
    std::string bound;
    std::size_t copied = 0;
    each_parameter(source, [&](const Piece& piece) {
      std::size_t number = number_of(piece.of(source));
      bound += source.substr(copied, piece.offset - copied);
      if (number == 0) {
        bound += piece.of(source);  // $0 is PostgreSQL's to refuse
      } else {
        // The blank keeps the literal off a letter before it, which would change its meaning.
        bound += ' ';
        bound += values_[number - 1] ? quote_literal(*values_[number - 1]) : "NULL";
      }
      copied = piece.end;
    });
    return bound.append(source.substr(copied));
  }

  std::span<const Value> values_;
};

}  // namespace

std::size_t parameter_count(const Statement& statement) {
  Counter counter;
  visit_parts(statement, counter);
  return counter.highest();
}

void bind_parameters(Statement& statement, std::span<const Value> values) {
  std::size_t needed = parameter_count(statement);
  if (needed == 0) return;
  if (values.size() < needed) {
    throw Error(sqlstate::kProtocolViolation,
                fmt::format("the statement has {} parameters, but {} values were given", needed,
                            values.size()));
  }
  visit_parts(statement, Binder(values));
}

}  // namespace holdfast::sql
