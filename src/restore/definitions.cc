#include "restore/definitions.h"

#include <fmt/core.h>

#include <array>
#include <charconv>
#include <set>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "crypto/sealer.h"
#include "io/file.h"
#include "postgres/child_process.h"
#include "postgres/programs.h"
#include "postgres/versions.h"
#include "restore/catalog_text.h"
#include "restore/checks.h"
#include "restore/dump_tools.h"
#include "restore/prepared_transactions.h"
#include "restore/recovery_target.h"
#include "restore/workshop.h"

namespace holdfast::restore {
namespace {

// OIDs of catalogs. Source: PostgreSQL src/include/catalog/pg_class.h and so on.
constexpr std::uint32_t kTypeCatalog = 1247;
constexpr std::uint32_t kFunctionCatalog = 1255;
constexpr std::uint32_t kRelationCatalog = 1259;
constexpr std::uint32_t kDatabaseCatalog = 1262;
constexpr std::uint32_t kSchemaCatalog = 2615;
constexpr std::size_t kNameBytes = 6;
constexpr std::chrono::hours kRestorePatience{24};
constexpr std::uint64_t kScriptLimit = 4ULL << 30;

void run_program(std::vector<std::string> arguments, const Stop& stop) {
  const std::string program = std::filesystem::path(arguments.front()).filename();
  const auto result = postgres::run_child({.arguments = std::move(arguments),
                                           .timeout = kRestorePatience,
                                           .environment = {"LC_MESSAGES=C"}},
                                          stop);
  if (result.exit_code == 0) return;
  throw Error(sqlstate::kSystemError, fmt::format("{} failed", program)).detail(result.output);
}

std::string read_text(const std::string& path) {
  const auto bytes = io::read_whole(io::FileSystem::real(), path, kScriptLimit);
  if (!bytes) throw Error(sqlstate::kSystemError, fmt::format("\"{}\" was not written", path));
  return std::string(as_text(*bytes));
}

bool take_number(std::string_view& text, std::uint32_t& number) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// "-- Name: n; Type: t; Schema: s; Owner: o": the entry's words as the list has them. Empty for
/// another line.
std::string words_of_header(std::string_view line) {
  if (!take(line, "-- Name: ")) return {};
  // Names may hold "; Type: " themselves, types and schemas of ours hardly.
  const std::size_t type = line.rfind("; Type: ");
  const std::size_t schema = line.rfind("; Schema: ");
  const std::size_t owner = line.rfind("; Owner: ");
  if (type == line.npos || schema == line.npos || owner == line.npos || type > schema ||
      schema > owner) {
    return {};
  }
  const auto between = [&](std::size_t mark, std::string_view words, std::size_t end) {
    return line.substr(mark + words.size(), end - mark - words.size());
  };
  std::string_view who = line.substr(owner + std::string_view("; Owner: ").size());
  if (const std::size_t space = who.find("; Tablespace: "); space != who.npos) {
    who = who.substr(0, space);
  }
  // Without owners it prints "-" for them.
  return fmt::format("{} {} {}", between(type, "; Type: ", schema),
                     between(schema, "; Schema: ", owner), line.substr(0, type));
}

/// Without what pg_restore sets for the entry after it, and white space around it.
std::string trimmed(std::string_view text) {
  static constexpr std::array<std::string_view, 6> kNotOurs = {
      "--", "SET default_", "\\connect ", "\\restrict ", "\\unrestrict ", "SET "};
  while (true) {
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    const std::size_t line = text.rfind('\n') + 1;
    const std::string_view last = text.substr(line);
    bool ours = true;
    for (const auto prefix : kNotOurs) ours = ours && !last.starts_with(prefix);
    if (last.starts_with("SELECT pg_catalog.set_config('search_path'")) ours = false;
    if (ours || last.empty()) break;
    text = text.substr(0, line);
  }
  while (!text.empty() && text.front() == '\n') text.remove_prefix(1);
  return std::string(text);
}

/// What belongs to a table (or other relation) and is an entry of its own in a dump.
std::map<CatalogRow, CatalogRow> parts_of_relations(postgres::Connection& connection,
                                                    const Stop& stop) {
  const auto found = connection.query(
      "SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, indexrelid, 1259, "
      " indrelid FROM pg_catalog.pg_index "
      "UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid, 1259, conrelid "
      " FROM pg_catalog.pg_constraint WHERE conrelid <> 0 "
      "UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid, 1247, contypid "
      " FROM pg_catalog.pg_constraint WHERE contypid <> 0 "
      "UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, oid, 1259, adrelid "
      " FROM pg_catalog.pg_attrdef "
      "UNION ALL SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, oid, 1259, tgrelid "
      " FROM pg_catalog.pg_trigger "
      "UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, oid, 1259, ev_class "
      " FROM pg_catalog.pg_rewrite "
      "UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, oid, 1259, polrelid "
      " FROM pg_catalog.pg_policy "
      "UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, oid, 1259, stxrelid "
      " FROM pg_catalog.pg_statistic_ext",
      stop);
  std::map<CatalogRow, CatalogRow> parts;
  const auto oid = [&](std::size_t row, std::size_t column) {
    return static_cast<std::uint32_t>(found.integer(row, column));
  };
  for (std::size_t row = 0; row < found.rows(); ++row) {
    parts[{oid(row, 0), oid(row, 1)}] = {oid(row, 2), oid(row, 3)};
  }
  return parts;
}

/// Relations (of an index, its table) by what the list has behind the type of an entry that is no
/// row of a catalog: "public parts_east alice".
std::map<std::string, CatalogRow, std::less<>> relations_by_words(postgres::Connection& connection,
                                                                  const Stop& stop) {
  const auto found = connection.query(
      "SELECT pg_catalog.concat_ws(' ', n.nspname, c.relname, "
      " pg_catalog.pg_get_userbyid(c.relowner)), COALESCE(i.indrelid, c.oid) "
      "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
      "LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid WHERE c.oid >= 16384",
      stop);
  std::map<std::string, CatalogRow, std::less<>> relations;
  for (std::size_t row = 0; row < found.rows(); ++row) {
    relations[found.text(row, 0)] = {kRelationCatalog,
                                     static_cast<std::uint32_t>(found.integer(row, 1))};
  }
  return relations;
}

class Reader {
 public:
  Reader(const std::filesystem::path& programs, const std::string& directory, Workshop& workshop,
         const Stop& stop)
      : programs_(programs), directory_(directory), workshop_(workshop), stop_(stop) {}

  Definitions read(const std::string& database, std::uint32_t oid) {
    workshop_.start(workshop_.catalogs_of(oid, {}, stop_), database, stop_);
    postgres::Connection connection = workshop_.open(database, stop_);
    release_prepared(connection, stop_);
    const auto parts = parts_of_relations(connection, stop_);
    const auto relations = relations_by_words(connection, stop_);
    const auto owner_of = [&](const ListEntry& entry) {
      std::string_view words = entry.rest;
      if (take(words, "TABLE ATTACH ") || take(words, "INDEX ATTACH ") ||
          take(words, "ROW SECURITY ") || take(words, "SEQUENCE OWNED BY ")) {
        const auto relation = relations.find(words);
        return relation != relations.end() ? relation->second : CatalogRow();
      }
      const auto part = parts.find(entry.row);
      return part != parts.end() ? part->second : entry.row;
    };
    const std::string file = directory_ + "/definitions";
    run_program({programs_ / "pg_dump", "--format=custom", "--compress=0", "--schema-only",
                 "--create", "--no-owner", "--no-privileges", "--no-comments",
                 "--no-security-labels", "--no-subscriptions", "--file=" + file,
                 fmt::format("--dbname={} dbname={}", workshop_.connect(database).conninfo,
                             quote_conninfo_value(database))},
                stop_);
    run_program({programs_ / "pg_restore", "--list", "--create", "--file=" + file + ".list", file},
                stop_);
    run_program({programs_ / "pg_restore", "--create", "--no-owner", "--no-privileges",
                 "--file=" + file + ".sql", file},
                stop_);
    const std::string list = read_text(file + ".list");
    const auto entries = parse_list(list);
    const auto texts = split_script(read_text(file + ".sql"), entries);
    Definitions definitions;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const CatalogRow owner = owner_of(entries[i]);
      if (owner.oid == 0 || texts[i].empty()) continue;
      std::string& text = definitions[owner];
      text += (text.empty() ? "" : "\n\n") + texts[i];
    }
    return definitions;
  }

 private:
  const std::filesystem::path& programs_;
  const std::string& directory_;
  Workshop& workshop_;
  const Stop& stop_;
};

}  // namespace

CatalogRow row_of(const collection::proto::CatalogObject& object) {
  if (object.type() == "database") return {kDatabaseCatalog, object.oid()};
  if (object.type() == "schema") return {kSchemaCatalog, object.oid()};
  if (object.type() == "type") return {kTypeCatalog, object.oid()};
  if (object.type() == "function") return {kFunctionCatalog, object.oid()};
  return {kRelationCatalog, object.oid()};
}

std::vector<ListEntry> parse_list(std::string_view list) {
  std::vector<ListEntry> entries;
  while (!list.empty()) {
    std::string_view line = list.substr(0, list.find('\n'));
    list.remove_prefix(std::min(line.size() + 1, list.size()));
    ListEntry entry;
    std::uint32_t number = 0;
    if (!take_number(line, number) || !take(line, "; ") || !take_number(line, entry.row.catalog) ||
        !take(line, " ") || !take_number(line, entry.row.oid) || !take(line, " ")) {
      continue;
    }
    entry.rest = line;
    entries.push_back(entry);
  }
  return entries;
}

std::vector<std::string> split_script(std::string_view script,
                                      const std::vector<ListEntry>& entries) {
  std::vector<std::string> texts(entries.size());
  std::size_t next = 0;                  // the entry whose header is looked for
  std::size_t current = entries.size();  // the entry whose text this is; none yet
  std::size_t begin = 0;
  const auto end_at = [&](std::size_t position) {
    if (current < entries.size()) texts[current] = trimmed(script.substr(begin, position - begin));
  };
  std::size_t position = 0;
  while (position < script.size()) {
    const std::size_t line_end = std::min(script.find('\n', position), script.size());
    const std::string_view line = script.substr(position, line_end - position);
    if (line.starts_with("-- Name: ")) {
      const std::string words = words_of_header(line);
      // A header that is not the one of the entry to come is part of a text: of a function, say.
      for (std::size_t i = next; !words.empty() && i < entries.size(); ++i) {
        if (entries[i].rest != words && !entries[i].rest.starts_with(words + " ")) continue;
        end_at(position);
        current = i;
        next = i + 1;
        // The line behind it closes the comment.
        begin = std::min(script.find('\n', line_end + 1), script.size());
        break;
      }
    }
    position = line_end + 1;
  }
  end_at(script.size());
  return texts;
}

std::map<std::uint32_t, Definitions> read_definitions(const WorkshopServices& services,
                                                      storage::ObjectStore& store,
                                                      const collection::proto::Manifest& layer,
                                                      const Stop& stop) {
  const int major = postgres::major_of(static_cast<int>(layer.instance().server_version_num()));
  const auto given = services.programs(stop);
  const auto dump_programs = find_dump_programs(given, major, postgres::kNewestMajor, stop);
  const auto server = postgres::find_program(given, major, "postgres", stop);
  if (!server) {
    throw Error(
        sqlstate::kUndefinedFile,
        fmt::format("could not find the programs of PostgreSQL {}, the backup's version", major))
        .hint("Install that version, or name its directory with another --pg-bin.");
  }
  auto chain = read_restorable_chain(store, layer.subdirectory(), stop);
  proto::RestoreJobSpec end;
  adopt_target(chain.back(), end);
  const proto::RecoveryTarget* target = end.has_target() ? &end.target() : nullptr;
  if (target != nullptr) add_wal_up_to(*target, store, chain.back(), stop);
  const std::string directory =
      fmt::format("{}/show-{}", services.root, to_hex(crypto::random_bytes(kNameBytes)));
  Workshop workshop({.directory = directory,
                     .pg_bin = *server,
                     .chain = chain,
                     .target = target,
                     .store = store,
                     .files = io::FileSystem::real(),
                     .workers = std::max(1U, std::thread::hardware_concurrency())});
  Reader reader(dump_programs, directory, workshop, stop);
  std::map<std::uint32_t, Definitions> all;
  for (const auto& object : layer.objects()) {
    // Nobody connects to template0, and nothing of it is listed.
    if (object.type() != "database" || object.name() == "template0") continue;
    try {
      all[object.oid()] = reader.read(object.name(), object.oid());
    } catch (const Error& error) {
      // A WAL-only layer lists what the layer before it had; since then it may be gone.
      if (target == nullptr || error.state() != sqlstate::kInvalidCatalogName) throw;
    }
  }
  return all;
}

}  // namespace holdfast::restore
