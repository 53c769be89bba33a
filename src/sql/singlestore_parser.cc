#include "sql/singlestore_parser.h"

#include <fmt/format.h>

#include <utility>

#include "sql/schedule_parser.h"
#include "sql/target_parser.h"

namespace holdfast::sql {
namespace {

using Place = SingleStorePlace;

constexpr std::pair<std::string_view, Place::Kind> kServices[] = {
    {"s3", Place::Kind::S3}, {"gcs", Place::Kind::Gcs}, {"azure", Place::Kind::Azure}};

/// SingleStore's strings may stand in double quotes.
bool is_path(const TokenReader& reader, std::size_t ahead) {
  const Token::Kind kind = reader.peek(ahead).kind;
  return kind == Token::Kind::String || kind == Token::Kind::Parameter || kind == Token::Kind::Name;
}

Text expect_path(TokenReader& reader) {
  if (!is_path(reader, 0)) reader.fail();
  return parse_name_or_string(reader);
}

Place parse_place(TokenReader& reader) {
  Place place;
  for (const auto& [word, kind] : kServices) {
    if (!reader.accept({word})) continue;
    place.kind = kind;
    break;
  }
  place.location = expect_path(reader);
  return place;
}

/// A secret without its quotes must not be shown in the error.
std::optional<Text> parse_json(TokenReader& reader, std::string_view clause) {
  if (!reader.accept({clause})) return std::nullopt;
  if (!reader.at_text()) reader.fail(fmt::format("{} takes a string literal", clause));
  return reader.expect_text();
}

void parse_access(TokenReader& reader, Place& place) {
  place.config = parse_json(reader, "config");
  place.credentials = parse_json(reader, "credentials");
}

std::optional<std::string> parse_resource_pool(TokenReader& reader) {
  if (!reader.peek().symbol("(") || !reader.peek(1).word("option")) return std::nullopt;
  reader.skip(2);
  reader.expect({"resource_pool"});
  reader.expect_symbol("=");
  std::string pool = parse_name_or_string(reader).value;
  reader.expect_symbol(")");
  return pool;
}

SingleStoreBackup::Mode parse_mode(TokenReader& reader) {
  using Mode = SingleStoreBackup::Mode;
  if (!reader.accept({"with"})) return Mode::Full;
  if (reader.accept({"init"})) return Mode::Init;
  if (reader.accept({"differential"})) return Mode::Differential;
  reader.expect({"split", "partitions"});
  if (reader.accept({"by"})) {
    // The only factor that there is.
    if (expect_id(reader) != 2) reader.fail("SPLIT PARTITIONS takes BY 2 only");
  }
  return Mode::SplitPartitions;
}

/// WITH {SYNC | ASYNC} {DURABILITY | REPLICATION} …
void parse_sync_options(TokenReader& reader, SingleStoreRestore& restore) {
  while (reader.accept({"with"})) {
    if (!restore.file && reader.accept({"file"})) {
      reader.expect_symbol("=");
      restore.file = expect_id(reader);
      continue;
    }
    bool any = false;
    while (reader.at({"sync"}) || reader.at({"async"})) {
      const bool wait = reader.at({"sync"});
      reader.skip(1);
      std::optional<bool>* what = nullptr;
      if (reader.accept({"durability"})) {
        what = &restore.sync_durability;
      } else {
        reader.expect({"replication"});
        what = &restore.sync_replication;
      }
      if (*what) reader.fail();
      *what = wait;
      any = true;
    }
    if (!any) reader.fail();
  }
}

}  // namespace

bool at_singlestore_backup(const TokenReader& reader) {
  return reader.at({"to"}) || reader.at({"with"});
}

bool at_singlestore_restore(const TokenReader& reader) {
  if (reader.at({"as"})) return true;
  if (!reader.at({"from"})) return false;
  for (const auto& [word, kind] : kServices) {
    if (reader.at({"from", word}) && is_path(reader, 2)) return true;
  }
  return is_path(reader, 1) && !reader.peek(2).word("in");
}

SingleStoreBackup parse_singlestore_backup(TokenReader& reader, std::string database) {
  SingleStoreBackup backup;
  backup.database = std::move(database);
  backup.mode = parse_mode(reader);
  reader.expect({"to"});
  backup.place = parse_place(reader);
  if (reader.accept({"timeout"})) backup.timeout_ms = expect_id(reader);
  parse_access(reader, backup.place);
  backup.resource_pool = parse_resource_pool(reader);
  if (reader.accept({"tags"})) {
    reader.expect_symbol("(");
    do {
      backup.tags.push_back(parse_name_or_string(reader));
    } while (reader.accept_symbol(","));
    reader.expect_symbol(")");
  }
  return backup;
}

SingleStoreRestore parse_singlestore_restore(TokenReader& reader, std::string database) {
  SingleStoreRestore restore;
  restore.database = std::move(database);
  if (reader.accept({"as"})) restore.new_name = reader.expect_name();
  reader.expect({"from"});
  restore.place = parse_place(reader);
  parse_access(reader, restore.place);
  parse_sync_options(reader, restore);
  restore.resource_pool = parse_resource_pool(reader);
  return restore;
}

}  // namespace holdfast::sql
