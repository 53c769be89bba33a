#include "sql/target_parser.h"

#include "sql/skim.h"

namespace holdfast::sql {
namespace {

TablePattern parse_table_pattern(TokenReader& reader) {
  constexpr std::size_t kMostParts = 3;
  TablePattern pattern;
  if (reader.accept_symbol("*")) {
    pattern.wildcard = true;
    return pattern;
  }
  pattern.parts.push_back(reader.expect_name());
  while (reader.accept_symbol(".")) {
    if (reader.accept_symbol("*")) {
      pattern.wildcard = true;
      return pattern;
    }
    pattern.parts.push_back(reader.expect_label());
    if (pattern.parts.size() == kMostParts) return pattern;
  }
  return pattern;
}

/// TENANT and VIRTUAL may also be the names of tables: then a point, comma or `end` follows.
bool at_virtual_cluster(const TokenReader& reader, std::string_view end) {
  if (reader.at({"virtual", "cluster"})) return true;
  const Token& id = reader.peek(1);
  bool is_id = id.kind == Token::Kind::Number || id.kind == Token::Kind::Name ||
               (id.kind == Token::Kind::Word && !id.word(end));
  return reader.at({"tenant"}) && is_id;
}

}  // namespace

Targets parse_targets(TokenReader& reader, std::string_view end) {
  Targets targets;
  if (reader.at({end})) return targets;
  if (reader.accept({"database"})) {
    targets.kind = Targets::Kind::Databases;
    do {
      targets.databases.push_back(reader.expect_name());
    } while (reader.accept_symbol(","));
    return targets;
  }
  if (at_virtual_cluster(reader, end)) {
    targets.kind = Targets::Kind::VirtualCluster;
    reader.skip(reader.at({"tenant"}) ? 1 : 2);
    bool number = reader.peek().kind == Token::Kind::Number;
    targets.virtual_cluster = number ? reader.peek().text : reader.expect_name();
    if (number) reader.skip(1);
    return targets;
  }
  reader.accept({"table"});
  targets.kind = Targets::Kind::Tables;
  do {
    targets.tables.push_back(parse_table_pattern(reader));
  } while (reader.accept_symbol(","));
  return targets;
}

Subdirectory subdirectory_of(Text path) {
  if (!path.parameter && word_is(path.value, "latest")) return {};
  return {.latest = false, .path = std::move(path)};
}

Subdirectory parse_subdirectory(TokenReader& reader) {
  if (reader.accept({"latest"})) return {};
  return subdirectory_of(reader.expect_text());
}

Text parse_name_or_string(TokenReader& reader) {
  if (reader.at_text()) return reader.expect_text();
  return {.value = reader.expect_name(), .parameter = {}};
}

}  // namespace holdfast::sql
