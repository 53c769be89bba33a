#include "backup/scope.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "collection/scope.h"

namespace holdfast::backup {

namespace {

using collection::proto::CatalogObject;
using collection::proto::ScopeDatabase;
using collection::proto::ScopeTable;
using postgres::Connection;

/// Source: PostgreSQL src/include/access/transam.h (FirstNormalObjectId).
constexpr std::uint32_t kFirstNormalOid = 16384;

/// `roots`: OIDs as "16390, 16400". Partitions go with their tables; children of plain inheritance
/// are tables of their own.
std::string relations_query(std::string_view roots) {
  return fmt::format(
      "WITH RECURSIVE whole AS ("
      " SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid IN ({0}) "
      " UNION SELECT i.inhrelid FROM whole "
      "  JOIN pg_catalog.pg_inherits i ON i.inhparent = whole.oid "
      "  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition), "
      "owned AS (SELECT oid FROM whole UNION SELECT s.oid FROM whole "
      " JOIN pg_catalog.pg_depend d ON d.refobjid = whole.oid "
      "  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
      "  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i') "
      " JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'), "
      "heaps AS (SELECT oid FROM owned UNION SELECT c.reltoastrelid FROM owned "
      " JOIN pg_catalog.pg_class c ON c.oid = owned.oid WHERE c.reltoastrelid <> 0), "
      "parts AS (SELECT oid FROM heaps UNION SELECT i.indexrelid FROM heaps "
      " JOIN pg_catalog.pg_index i ON i.indrelid = heaps.oid), "
      // Large objects are nobody's here. Statistics hold values of every table's rows: only their
      // indexes, which do not, are wanted.
      "statistics AS (SELECT c.oid FROM pg_catalog.pg_class c "
      "  WHERE c.oid IN ('pg_catalog.pg_statistic'::pg_catalog.regclass, "
      "   'pg_catalog.pg_statistic_ext_data'::pg_catalog.regclass)), "
      "toasted AS (SELECT c.reltoastrelid AS oid FROM statistics "
      "  JOIN pg_catalog.pg_class c ON c.oid = statistics.oid), "
      "unwanted AS (SELECT oid FROM toasted UNION SELECT i.indexrelid FROM toasted "
      "  JOIN pg_catalog.pg_index i ON i.indrelid = toasted.oid "
      " UNION SELECT 'pg_catalog.pg_largeobject'::pg_catalog.regclass "
      " UNION SELECT i.indexrelid FROM pg_catalog.pg_index i "
      "  WHERE i.indrelid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass) "
      "SELECT c.oid, COALESCE(pg_catalog.pg_relation_filenode(c.oid), 0), "
      " c.oid IN (SELECT oid FROM statistics) "
      "FROM pg_catalog.pg_class c WHERE c.oid IN (SELECT oid FROM parts) "
      "OR (c.oid < 16384 AND NOT c.relisshared AND c.relkind IN ('r', 'i', 't') "
      " AND c.oid NOT IN (SELECT oid FROM unwanted))",
      roots);
}

std::string types_query(std::string_view relations) {
  return fmt::format(
      "WITH RECURSIVE used(oid) AS ("
      " SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid IN ({}) "
      "  AND a.attnum > 0 AND NOT a.attisdropped "
      " UNION SELECT part.oid FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid "
      " CROSS JOIN LATERAL (SELECT t.typelem AS oid UNION ALL SELECT t.typbasetype "
      "  UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid "
      "  UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a "
      "   WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 "
      "   AND NOT a.attisdropped) part WHERE part.oid <> 0) "
      "SELECT oid FROM used WHERE oid >= 16384",
      relations);
}

Error is_gone(std::string_view what, std::string_view name, SqlState state, ScopeMoment moment) {
  if (moment == ScopeMoment::Start) {
    // CockroachDB's words (reference, section 3.4).
    return Error(state, fmt::format("failed to resolve targets specified in the BACKUP stmt: {} "
                                    "\"{}\" does not exist",
                                    what, name));
  }
  return Error(state, fmt::format("{} \"{}\" was dropped while it was backed up", what, name))
      .hint("Take the backup again, without it.");
}

/// The name that a database has now.
std::string name_of(Connection& connection, const ScopeDatabase& database, ScopeMoment moment,
                    const Stop& stop) {
  const auto found =
      connection.query("SELECT datname FROM pg_catalog.pg_database WHERE oid = $1::pg_catalog.oid",
                       {std::to_string(database.oid())}, stop);
  if (found.rows() == 0) {
    throw is_gone("database", database.name(), sqlstate::kInvalidCatalogName, moment);
  }
  return found.text(0, 0);
}

ScopeListing::Tables list_tables(Connection& connection, const ScopeDatabase& database,
                                 ScopeMoment moment, const Stop& stop) {
  std::string roots;
  for (const ScopeTable& table : database.tables()) {
    roots += fmt::format("{}{}", roots.empty() ? "" : ", ", table.oid());
  }
  ScopeListing::Tables tables;
  std::string users;
  const auto found = connection.query(relations_query(roots), stop);
  for (std::size_t row = 0; row < found.rows(); ++row) {
    const auto oid = static_cast<std::uint32_t>(found.integer(row, 0));
    const auto file = static_cast<std::uint32_t>(found.integer(row, 1));
    if (found.boolean(row, 2)) {
      tables.blank_files.insert(file);
      continue;
    }
    tables.relations[oid] = file;
    if (oid < kFirstNormalOid) {
      tables.catalogs.insert(oid);
    } else {
      users += fmt::format("{}{}", users.empty() ? "" : ", ", oid);
    }
  }
  for (const ScopeTable& table : database.tables()) {
    if (tables.relations.contains(table.oid())) continue;
    throw is_gone("table", collection::print_table(database, table), sqlstate::kUndefinedTable,
                  moment);
  }
  const auto types = connection.query(types_query(users), stop);
  for (std::size_t row = 0; row < types.rows(); ++row) {
    tables.types.insert(static_cast<std::uint32_t>(types.integer(row, 0)));
  }
  return tables;
}

Error left_out(const std::string& what) {
  return Error(sqlstate::kInvalidParameterValue,
               fmt::format("previous backup contains {}, which this one leaves out", what))
      .detail("All layers of a chain have the same scope.")
      .hint("Start a new chain with BACKUP … INTO, or name what the chain's full backup named.");
}

Error rewritten(std::string_view when) {
  return Error(sqlstate::kObjectNotInPrerequisiteState,
               fmt::format("a table of the backup was made or rewritten {}", when))
      .detail("TRUNCATE, VACUUM FULL, REINDEX, CLUSTER and some forms of ALTER TABLE rewrite.")
      .hint("Take the backup again.")
      .retry(Retry::Safe);
}

Error redefined() {
  return Error(sqlstate::kObjectNotInPrerequisiteState,
               "a table of the backup may have been redefined when the backup ended")
      .detail(
          "What ANALYZE, GRANT or CREATE TRIGGER commit looks like the attaching of a partition "
          "or a new index there, and the catalogs of a standby cannot be asked for that moment.")
      .hint(
          "Take the backup again; let holdfast's role run CHECKPOINT on the standby (GRANT "
          "pg_checkpoint), so that its backups end sooner.")
      .retry(Retry::Safe);
}

void add_files(const ScopeListing& listing, std::uint32_t database,
               postgres::WalScope::Relations& relations) {
  const auto found = listing.tables.find(database);
  if (found == listing.tables.end()) return;
  for (const auto& [oid, file] : found->second.relations) {
    if (file != 0) relations.files.insert(file);
  }
}

}  // namespace

Error no_scoped_history_on_standby() {
  return Error(sqlstate::kFeatureNotSupported,
               "BACKUP DATABASE and BACKUP TABLE with revision_history on a standby are not "
               "supported yet")
      .detail(
          "Each layer of their history ends with a commit of its own, and a standby commits "
          "nothing.")
      .hint(
          "Leave the option out; or take the backup on the primary, or the whole cluster's on the "
          "standby.");
}

ScopeListing list_scope(const postgres::ConnectOptions& connect, const Scope& scope,
                        ScopeMoment moment, const Stop& stop) {
  ScopeListing listing;
  Connection shared = Connection::open(connect, stop);
  for (const ScopeDatabase& database : scope) {
    const std::string name = name_of(shared, database, moment, stop);
    if (database.tables().empty()) continue;
    postgres::ConnectOptions options = connect;
    options.database = name;
    Connection connection = Connection::open(options, stop);
    listing.tables[database.oid()] = list_tables(connection, database, moment, stop);
  }
  return listing;
}

void require_nothing_left_out(const collection::proto::Manifest& base, const Scope& scope,
                              const postgres::ConnectOptions& connect, const Stop& stop) {
  Connection shared = Connection::open(connect, stop);
  for (const ScopeDatabase& former : base.scope_databases()) {
    const auto wanted = std::ranges::find(scope, former.oid(), &ScopeDatabase::oid);
    const auto found =
        shared.query("SELECT datname FROM pg_catalog.pg_database WHERE oid = $1::pg_catalog.oid",
                     {std::to_string(former.oid())}, stop);
    if (found.rows() == 0) continue;
    if (former.tables().empty() && wanted == scope.end()) {
      throw left_out(fmt::format("database \"{}\"", found.text(0, 0)));
    }
    postgres::ConnectOptions options = connect;
    options.database = found.text(0, 0);
    std::optional<Connection> connection;
    for (const ScopeTable& table : former.tables()) {
      const bool named = wanted != scope.end() &&
                         std::ranges::find(wanted->tables(), table.oid(), &ScopeTable::oid) !=
                             wanted->tables().end();
      if (named) continue;
      if (!connection) connection = Connection::open(options, stop);
      if (connection
              ->query("SELECT FROM pg_catalog.pg_class WHERE oid = $1::pg_catalog.oid",
                      {std::to_string(table.oid())}, stop)
              .rows() != 0) {
        throw left_out(fmt::format("table \"{}\"", collection::print_table(former, table)));
      }
    }
  }
}

postgres::WalScope wal_scope(const Scope& scope, const ScopeListing& one,
                             const ScopeListing& other) {
  postgres::WalScope wal;
  for (const ScopeDatabase& database : scope) {
    auto& relations = wal.databases[database.oid()];
    if (database.tables().empty()) continue;
    relations.all = false;
    add_files(one, database.oid(), relations);
    add_files(other, database.oid(), relations);
  }
  return wal;
}

void keep_objects_in_scope(const Scope& scope, const ScopeListing& listing,
                           collection::proto::Manifest& manifest) {
  std::set<std::pair<std::uint32_t, std::uint32_t>> schemas;  // of a database
  const auto tables_of = [&](const CatalogObject& object) {
    const auto found = listing.tables.find(object.database_oid());
    return found != listing.tables.end() ? &found->second : nullptr;
  };
  const auto is_outside = [&](const CatalogObject& object) {
    if (std::ranges::find(scope, object.database_oid(), &ScopeDatabase::oid) == scope.end()) {
      return true;
    }
    const auto* tables = tables_of(object);
    if (tables == nullptr || object.type() == "database" || object.type() == "schema") return false;
    const bool inside = object.type() == "type" ? tables->types.contains(object.oid())
                                                : object.type() != "function" &&
                                                      tables->relations.contains(object.oid());
    if (inside) schemas.emplace(object.database_oid(), object.schema_oid());
    return !inside;
  };
  auto& objects = *manifest.mutable_objects();
  objects.erase(std::remove_if(objects.begin(), objects.end(), is_outside), objects.end());
  const auto is_foreign_schema = [&](const CatalogObject& object) {
    return tables_of(object) != nullptr && object.type() == "schema" &&
           !schemas.contains({object.database_oid(), object.oid()});
  };
  objects.erase(std::remove_if(objects.begin(), objects.end(), is_foreign_schema), objects.end());
}

void require_all_files(const ScopeCheck& check) {
  for (const auto& [database, tables] : check.end.tables) {
    const auto after = check.after.tables.find(database);
    const bool same = after != check.after.tables.end() &&
                      after->second.relations == tables.relations &&
                      after->second.blank_files == tables.blank_files;
    if (!same) throw rewritten("when the backup ended");
    for (const auto& [oid, file] : tables.relations) {
      // A catalog's own come and go with VACUUM FULL and REINDEX only, which give it new files.
      if (!tables.catalogs.contains(oid) && check.redefined.contains({database, oid})) {
        throw redefined();
      }
      if (file == 0) continue;
      // Committed before the stop, and not yet visible to who looked.
      if (check.dropped.contains({database, file})) throw rewritten("when the backup ended");
      // Made by a transaction that was under way when the files were listed: what it had written
      // before is neither in the files nor in the WAL.
      if (!check.copied.contains({database, file}) && !check.created.contains({database, file})) {
        throw rewritten("when the backup began");
      }
    }
  }
}

void store_scope(const Scope& scope, const ScopeListing& listing,
                 collection::proto::Manifest& manifest) {
  manifest.set_scope(listing.tables.empty() ? collection::proto::SCOPE_DATABASES
                                            : collection::proto::SCOPE_TABLES);
  *manifest.mutable_scope_databases() = scope;
  for (ScopeDatabase& database : *manifest.mutable_scope_databases()) {
    const auto found = listing.tables.find(database.oid());
    if (found == listing.tables.end()) continue;
    for (const auto& [oid, file] : found->second.relations) {
      if (!found->second.catalogs.contains(oid)) database.add_relations(oid);
      if (file != 0) database.add_files(file);
    }
    for (const auto file : found->second.blank_files) database.add_blank_files(file);
  }
}

}  // namespace holdfast::backup
