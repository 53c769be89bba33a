#include "statements/backup_scope.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "collection/scope.h"
#include "sql/lexer.h"
#include "sql/printer.h"
#include "statements/backup_rights.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

using collection::proto::ScopeDatabase;
using collection::proto::ScopeTable;
using postgres::Connection;

constexpr SqlState kInvalidSchemaName("3F000");

// What is nobody's of the users: system schemas, temporary tables, members of extensions.
constexpr std::string_view kRelations =
    "SELECT c.oid, n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner) "
    "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = $1 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' "
    "AND c.relpersistence <> 't' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d "
    " WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass "
    " AND d.objid = c.oid) ";

constexpr std::string_view kNamed =
    "AND c.relname = $2 AND c.relkind IN ('r', 'p', 'f', 'S', 'v', 'm')";

// Partitions and owned sequences come with their tables.
constexpr std::string_view kAllOfSchema =
    "AND c.relkind IN ('r', 'p', 'f', 'S') AND NOT (c.relispartition AND EXISTS ("
    " SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhparent "
    " WHERE i.inhrelid = c.oid AND p.relnamespace = c.relnamespace)) "
    "AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_catalog.pg_depend d "
    " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid "
    " AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
    " AND d.deptype IN ('a', 'i'))) ORDER BY c.relname";

[[noreturn]] void missing(SqlState state, const std::string& what) {
  // CockroachDB's words (reference, section 3.4).
  throw Error(state, fmt::format("failed to resolve targets specified in the BACKUP stmt: {} does "
                                 "not exist",
                                 what));
}

class ScopeResolver {
 public:
  ScopeResolver(const LiveServer& live, sql::SessionContext& session, const Stop& stop)
      : live_(live), session_(session), stop_(stop), is_administrator_(is_administrator(session)) {}

  void add_database(const std::string& name) {
    if (!find_database(name)) {
      missing(sqlstate::kInvalidCatalogName, fmt::format("database \"{}\"", name));
    }
    take_database(name);
  }

  void add_tables(const sql::TablePattern& pattern) {
    if (pattern.wildcard) {
      add_all_of(pattern);
    } else {
      add_table(pattern);
    }
  }

  backup::Scope scope() && {
    backup::Scope scope;
    for (auto& [name, database] : databases_) {
      if (database.chosen) *scope.Add() = std::move(database.scope);
    }
    return scope;
  }

 private:
  struct Database {
    ScopeDatabase scope;
    std::string owner;
    bool chosen = false;
    bool whole = false;
  };

  Database* find_database(const std::string& name) {
    const auto known = databases_.find(name);
    if (known != databases_.end()) return &known->second;
    const auto found =
        connection(session_.database())
            .query(
                "SELECT oid, pg_catalog.pg_get_userbyid(datdba) FROM pg_catalog.pg_database "
                "WHERE datname = $1",
                {name}, stop_);
    if (found.rows() == 0) return nullptr;
    if (name == "template0" || name == "template1") {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("cannot back up template database \"{}\" alone", name))
          .hint("BACKUP INTO takes it along with the whole cluster.");
    }
    Database& database = databases_[name];
    database.scope.set_oid(static_cast<std::uint32_t>(found.integer(0, 0)));
    database.scope.set_name(name);
    database.owner = found.text(0, 1);
    return &database;
  }

  void take_database(const std::string& name) {
    Database& database = databases_.at(name);
    require_owner(database.owner, fmt::format("database {}", name));
    database.chosen = true;
    database.whole = true;
    database.scope.clear_tables();
  }

  void add_all_of(const sql::TablePattern& pattern) {
    const auto& parts = pattern.parts;
    std::string database = session_.database();
    std::string schema;
    if (parts.empty()) {
      schema = search_path().empty() ? "public" : search_path().front();
    } else if (parts.size() == 2) {
      database = parts[0];
      schema = parts[1];
    } else if (has_schema(database, parts[0])) {
      // A schema of the session's database goes before a database.
      schema = parts[0];
    } else {
      if (!find_database(parts[0])) {
        missing(sqlstate::kInvalidCatalogName, fmt::format("database \"{}\"", parts[0]));
      }
      return take_database(parts[0]);
    }
    if (!find_database(database)) {
      missing(sqlstate::kInvalidCatalogName, fmt::format("database \"{}\"", database));
    }
    if (!has_schema(database, schema)) {
      missing(kInvalidSchemaName, fmt::format("schema \"{}\"", schema));
    }
    const auto found = connection(database).query(
        std::string(kRelations) + std::string(kAllOfSchema), {schema}, stop_);
    if (found.rows() == 0) {
      missing(sqlstate::kUndefinedTable, fmt::format("table \"{}\"", sql::shown(pattern)));
    }
    for (std::size_t row = 0; row < found.rows(); ++row) take_table(database, found, row);
  }

  void add_table(const sql::TablePattern& pattern) {
    const auto& parts = pattern.parts;
    const std::string& name = parts.back();
    const std::string database = parts.size() == 3 ? parts[0] : session_.database();
    std::vector<std::string> schemas;
    if (parts.size() == 1) schemas = search_path();
    if (parts.size() > 1) schemas = {parts[parts.size() - 2]};
    for (const std::string& schema : schemas) {
      if (take_named(database, schema, name)) return;
    }
    // "bank.customers" may mean a database's table in its usual schema.
    if (parts.size() == 2 && take_named(parts[0], "public", name)) return;
    missing(sqlstate::kUndefinedTable, fmt::format("table \"{}\"", sql::shown(pattern)));
  }

  bool take_named(const std::string& database, const std::string& schema, const std::string& name) {
    if (!find_database(database)) return false;
    const auto found = connection(database).query(std::string(kRelations) + std::string(kNamed),
                                                  {schema, name}, stop_);
    if (found.rows() == 0) return false;
    require_owner(found.text(0, 3), fmt::format("relation {}", found.text(0, 2)));
    take_table(database, found, 0);
    return true;
  }

  void take_table(const std::string& name, const postgres::QueryResult& found, std::size_t row) {
    Database& database = databases_.at(name);
    require_owner(found.text(row, 3), fmt::format("relation {}", found.text(row, 2)));
    if (database.whole) return;
    database.chosen = true;
    const auto oid = static_cast<std::uint32_t>(found.integer(row, 0));
    const auto& tables = database.scope.tables();
    if (std::ranges::find(tables, oid, &ScopeTable::oid) != tables.end()) return;
    ScopeTable& table = *database.scope.add_tables();
    table.set_oid(oid);
    table.set_schema(found.text(row, 1));
    table.set_name(found.text(row, 2));
  }

  void require_owner(const std::string& owner, const std::string& what) {
    if (!is_administrator_) require_ownership(session_, owner, what);
  }

  bool has_schema(const std::string& database, const std::string& name) {
    return find_database(database) != nullptr &&
           connection(database)
                   .query("SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1", {name}, stop_)
                   .rows() != 0;
  }

  Connection& connection(const std::string& database) {
    const auto known = connections_.find(database);
    if (known != connections_.end()) return known->second;
    // The daemon may connect to any: what is in there is not for everybody to know.
    if (!is_administrator_ && database != session_.database()) {
      require_connect(session_, database);
    }
    postgres::ConnectOptions options = live_();
    options.database = database;
    return connections_.emplace(database, Connection::open(options, stop_)).first->second;
  }

  const std::vector<std::string>& search_path() {
    if (!search_path_read_) {
      const auto result =
          session_.query("SELECT s FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) AS s");
      for (const auto& row : result.rows) {
        if (row.at(0)) search_path_.push_back(*row[0]);
      }
      search_path_read_ = true;
    }
    return search_path_;
  }

  const LiveServer& live_;
  sql::SessionContext& session_;
  const Stop& stop_;
  const bool is_administrator_;
  std::map<std::string, Database> databases_;
  std::map<std::string, Connection> connections_;
  std::vector<std::string> search_path_;
  bool search_path_read_ = false;
};

}  // namespace

backup::Scope resolve_backup_scope(const sql::Targets& targets, const LiveServer& live,
                                   sql::SessionContext& session, const Stop& stop) {
  ScopeResolver resolver(live, session, stop);
  for (const std::string& name : targets.databases) resolver.add_database(name);
  for (const sql::TablePattern& pattern : targets.tables) resolver.add_tables(pattern);
  return std::move(resolver).scope();
}

}  // namespace holdfast::statements
