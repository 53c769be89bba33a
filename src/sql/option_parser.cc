#include "sql/option_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"

namespace holdfast::sql {
namespace {

/// How many of the next tokens are the words of `name`; 0 when they are not.
std::size_t match_words(const TokenReader& reader, std::string_view name) {
  std::size_t words = 0;
  while (!name.empty()) {
    std::size_t space = std::min(name.find(' '), name.size());
    if (!reader.peek(words).word(name.substr(0, space))) return 0;
    ++words;
    name.remove_prefix(std::min(space + 1, name.size()));
  }
  return words;
}

const OptionSpec& expect_option_name(TokenReader& reader, unsigned lists) {
  const OptionSpec* found = nullptr;
  std::size_t words = 0;
  for (const OptionSpec& spec : kOptions) {
    if ((spec.lists & lists) == 0) continue;
    if (std::size_t count = match_words(reader, spec.name); count > words) {
      found = &spec;
      words = count;
    }
  }
  if (found == nullptr) reader.fail();
  reader.skip(words);
  return *found;
}

/// The spellings that PostgreSQL takes for a bool, and CockroachDB with it.
std::optional<bool> read_bool(std::string value) {
  for (char& c : value) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  for (std::string_view word : {"true", "t", "yes", "y", "on", "1"}) {
    if (value == word) return true;
  }
  for (std::string_view word : {"false", "f", "no", "n", "off", "0"}) {
    if (value == word) return false;
  }
  return std::nullopt;
}

bool expect_bool(TokenReader& reader) {
  const Token& token = reader.peek();
  bool may_be = token.kind == Token::Kind::Word || token.kind == Token::Kind::String ||
                token.kind == Token::Kind::Number;
  std::optional<bool> value = may_be ? read_bool(token.text) : std::nullopt;
  if (!value) reader.fail();
  reader.skip(1);
  return *value;
}

Text expect_scalar(TokenReader& reader) {
  if (reader.at_text()) return reader.expect_text();
  const Token& token = reader.peek();
  if (token.kind != Token::Kind::Word && token.kind != Token::Kind::Number) reader.fail();
  Text text{.value = token.text, .parameter = {}};
  reader.skip(1);
  return text;
}

Text expect_integer(TokenReader& reader) {
  const Token& token = reader.peek();
  bool digits = token.text.find_first_not_of("0123456789") == std::string::npos;
  if (token.kind == Token::Kind::Parameter) return reader.expect_text();
  bool may_be = token.kind == Token::Kind::Number || token.kind == Token::Kind::String;
  // 18 digits fit 64 bits.
  if (!may_be || !digits || token.text.empty() || token.text.size() > 18) reader.fail();
  Text text{.value = token.text, .parameter = {}};
  reader.skip(1);
  return text;
}

void parse_value(TokenReader& reader, const OptionSpec& spec, Option& option) {
  switch (spec.type) {
    case OptionType::Flag:
      return;
    case OptionType::Boolean:
      if (reader.accept_symbol("=")) option.enabled = expect_bool(reader);
      return;
    default:
      break;
  }
  bool equals = reader.accept_symbol("=");
  // A passphrase without quotes must not be shown in the error.
  if (spec.secret == Secret::Yes && !(equals && reader.at_text())) {
    reader.fail(fmt::format("{} takes = and a string literal", spec.name));
  }
  if (!equals) reader.fail();
  switch (spec.type) {
    case OptionType::BooleanValue:
      option.enabled = expect_bool(reader);
      break;
    case OptionType::String:
      option.values.push_back(reader.expect_text());
      break;
    case OptionType::Scalar:
      option.values.push_back(expect_scalar(reader));
      break;
    case OptionType::Integer:
      option.values.push_back(expect_integer(reader));
      break;
    default:
      option.values = reader.expect_uris();
      break;
  }
}

/// Source: CockroachDB 25.4, the two wordings of pkg/sql/sem/tree/backup.go.
std::string given_twice(const OptionSpec& spec) {
  bool bare = spec.name == "encryption_passphrase" || spec.name == "kms";
  return fmt::format("{}{} specified multiple times", spec.name, bare ? "" : " option");
}

}  // namespace

void parse_option(TokenReader& reader, unsigned lists, Options& options) {
  TokenReader before = reader;
  const OptionSpec& spec = expect_option_name(reader, lists);
  auto given = [&](std::string_view name) {
    return std::any_of(options.list.begin(), options.list.end(),
                       [&](const Option& option) { return option.name == name; });
  };
  if (given(spec.name)) before.fail(given_twice(spec));
  if ((spec.name == "kms" && given("encryption_passphrase")) ||
      (spec.name == "encryption_passphrase" && given("kms"))) {
    before.fail("cannot have both encryption_passphrase and kms option set");
  }
  Option option{.name = spec.name, .enabled = true, .values = {}};
  parse_value(reader, spec, option);
  options.list.push_back(std::move(option));
}

Options parse_option_list(TokenReader& reader, unsigned lists) {
  Options options;
  bool parenthesis = reader.accept_symbol("(");
  do {
    parse_option(reader, lists, options);
  } while (reader.accept_symbol(","));
  if (parenthesis) reader.expect_symbol(")");
  return options;
}

Options parse_options(TokenReader& reader, unsigned lists) {
  if (!reader.accept({"with"})) return {};
  if (reader.at({"options"}) && reader.peek(1).symbol("(")) {
    reader.skip(1);
    return parse_option_list(reader, lists);
  }
  if (reader.peek().symbol("(")) reader.fail();
  return parse_option_list(reader, lists);
}

}  // namespace holdfast::sql
