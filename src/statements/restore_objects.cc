#include "statements/restore_objects.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "collection/scope.h"
#include "sql/filter_text.h"
#include "sql/printer.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

using collection::proto::Manifest;
using restore::proto::ObjectRestoreSpec;

constexpr std::array<std::string_view, 13> kServed = {"into_db",
                                                      "into_schema",
                                                      "new_table_name",
                                                      "where",
                                                      "new_db_name",
                                                      "schema_only",
                                                      "verify_backup_table_data",
                                                      "grants",
                                                      "skip_missing_foreign_keys",
                                                      "skip_missing_sequences",
                                                      "skip_missing_sequence_owners",
                                                      "skip_missing_views",
                                                      "skip_missing_udfs"};

constexpr std::string_view kUnresolved =
    "failed to resolve targets in the BACKUP location specified by the RESTORE statement, use SHOW "
    "BACKUP to find correct targets";

bool databases(const sql::Restore& statement) {
  return statement.targets.kind == sql::Targets::Kind::Databases;
}

bool system_users(const sql::Restore& statement) {
  return statement.targets.kind == sql::Targets::Kind::SystemUsers;
}

[[noreturn]] void wrong_option(std::string message) {
  throw Error(sqlstate::kInvalidParameterValue, std::move(message));
}

/// Finds what table patterns mean in a backup.
class Resolver {
 public:
  Resolver(const Manifest& manifest, Behind behind, sql::SessionContext& session)
      : manifest_(manifest), behind_(behind), session_(session) {}

  restore::proto::TablePattern resolve(const sql::TablePattern& pattern) {
    return pattern.wildcard ? resolve_wildcard(pattern) : resolve_name(pattern);
  }

 private:
  restore::proto::TablePattern resolve_wildcard(const sql::TablePattern& pattern) {
    const auto& parts = pattern.parts;
    restore::proto::TablePattern found;
    found.set_database(parts.size() == 2 ? parts[0] : session_.database());
    if (parts.empty()) {
      found.set_schema(search_path().empty() ? "public" : search_path().front());
    } else if (parts.size() == 2 || has_schema(session_.database(), parts[0])) {
      // A schema of the session's database goes before a database.
      found.set_schema(parts.back());
    } else {
      found.set_database(parts[0]);
    }
    if (!has_database(found.database())) missing(fmt::format("database \"{}\"", found.database()));
    if (found.schema().empty() &&
        collection::holds_tables_only(manifest_, std::string_view(found.database()))) {
      // CockroachDB's words (reference, section 3.7).
      throw Error(sqlstate::kInvalidParameterValue,
                  "cannot RESTORE <database>.* from a backup of individual tables (use SHOW BACKUP "
                  "to determine available tables)");
    }
    if (!found.schema().empty() && !has_schema(found.database(), found.schema())) {
      missing(fmt::format("schema \"{}\"", found.schema()));
    }
    return found;
  }

  restore::proto::TablePattern resolve_name(const sql::TablePattern& pattern) {
    const auto& parts = pattern.parts;
    restore::proto::TablePattern found;
    found.set_name(parts.back());
    found.set_database(parts.size() == 3 ? parts[0] : session_.database());
    std::vector<std::string> schemas;
    if (parts.size() == 1) schemas = search_path();
    if (parts.size() > 1) schemas = {parts[parts.size() - 2]};
    for (const auto& schema : schemas) {
      if (find(found.database(), schema, found.name())) {
        found.set_schema(schema);
        return found;
      }
    }
    if (parts.size() == 2) {
      // "bank.customers" may mean a database's table in its usual schema.
      if (find(parts[0], "public", parts[1])) {
        found.set_database(parts[0]);
        found.set_schema("public");
        return found;
      }
    }
    if (behind_ == Behind::Yes && resolve_unlisted(pattern, schemas, found)) return found;
    missing(fmt::format("table \"{}\"", sql::shown(pattern)));
  }

  /// The table may have been made after the backup, in a database that the backup has.
  bool resolve_unlisted(const sql::TablePattern& pattern, const std::vector<std::string>& schemas,
                        restore::proto::TablePattern& found) const {
    const auto& parts = pattern.parts;
    const bool of_database =
        parts.size() == 2 && !has_schema(found.database(), parts[0]) && has_database(parts[0]);
    if (of_database) {
      found.set_database(parts[0]);
      found.set_schema("public");
      return true;
    }
    if (!has_database(found.database()) || schemas.empty()) return false;
    found.set_schema(schemas.front());
    return true;
  }

  [[noreturn]] static void missing(const std::string& what) {
    throw Error(sqlstate::kUndefinedTable,
                fmt::format("{}: {} does not exist, or invalid RESTORE timestamp: supplied backups "
                            "do not cover requested time",
                            kUnresolved, what));
  }

  bool has_database(const std::string& name) const {
    return std::ranges::any_of(manifest_.objects(), [&](const auto& object) {
      return object.type() == "database" && object.name() == name;
    });
  }
  bool has_schema(const std::string& database, const std::string& name) const {
    return std::ranges::any_of(manifest_.objects(), [&](const auto& object) {
      return object.database() == database &&
             ((object.type() == "schema" && object.name() == name) || object.schema() == name);
    });
  }
  bool find(const std::string& database, const std::string& schema, const std::string& name) const {
    return std::ranges::any_of(manifest_.objects(), [&](const auto& object) {
      return object.name() == name && object.schema() == schema && object.database() == database &&
             (object.type() == "table" || object.type() == "foreign table" ||
              object.type() == "sequence" || object.type() == "view" ||
              object.type() == "materialized view");
    });
  }

  const std::vector<std::string>& search_path() {
    if (search_path_.empty()) {
      const auto result = session_.query(
          "SELECT s FROM pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.array_to_string("
          "pg_catalog.current_schemas(false), E'\\x01'), E'\\x01')) AS s");
      for (const auto& row : result.rows) {
        if (row.at(0)) search_path_.push_back(*row[0]);
      }
      // Schemas that the path names and that are gone do not count for PostgreSQL; in the backup
      // there is at least the usual one.
      if (search_path_.empty()) search_path_.emplace_back("public");
    }
    return search_path_;
  }

  const Manifest& manifest_;
  const Behind behind_;
  sql::SessionContext& session_;
  std::vector<std::string> search_path_;
};

void check_user_options(const sql::Options& options) {
  constexpr std::array<std::string_view, 6> kTaken = {
      "encryption_passphrase", "kms",     "detached",
      "incremental_location",  "workers", "restore_from_versions_at"};
  if (options.find("into_db")) {
    wrong_option("cannot set into_db option when only restoring system users");
  }
  refuse_unsupported_options(options, "RESTORE SYSTEM USERS");
  for (const auto& option : options.list) {
    if (!option.enabled || std::ranges::find(kTaken, option.name) != kTaken.end()) continue;
    wrong_option(
        fmt::format("cannot use \"{}\" option when only restoring system users", option.name));
  }
}

/// Every backup has the roles that its server needs to start; a backup of databases or tables is
/// often that of somebody who may not read them.
void require_users(const Manifest& manifest) {
  if (manifest.scope() == collection::proto::SCOPE_CLUSTER) return;
  // CockroachDB's words.
  throw Error(sqlstate::kInvalidParameterValue,
              "cannot restore system users as no system.users table in the backup")
      .detail("It is a backup of databases or tables.")
      .hint("Restore them from a backup of the whole cluster.");
}

void check_filter(const sql::Restore& statement) {
  const auto filter = statement.options.text("where");
  if (!filter) return;
  const auto& tables = statement.targets.tables;
  if (tables.size() != 1 || tables[0].wildcard) {
    wrong_option("where can only be used for RESTORE TABLE with a single target table");
  }
  if (statement.options.flag("schema_only")) {
    wrong_option("cannot use \"where\" option with schema_only, which restores no rows");
  }
  sql::check_filter_text(*filter);
}

void add_databases(const sql::Restore& statement, const Manifest& manifest,
                   ObjectRestoreSpec& spec) {
  for (const auto& name : statement.targets.databases) {
    const auto known = std::ranges::find_if(manifest.objects(), [&](const auto& object) {
      return object.type() == "database" && object.name() == name;
    });
    if (known == manifest.objects().end()) {
      throw Error(sqlstate::kInvalidCatalogName,
                  fmt::format("{}: database \"{}\" does not exist, or invalid RESTORE timestamp: "
                              "supplied backups do not cover requested time",
                              kUnresolved, name));
    }
    if (collection::holds_tables_only(manifest, known->oid())) {
      throw Error(sqlstate::kInvalidParameterValue,
                  "cannot RESTORE DATABASE from a backup of individual tables (use SHOW BACKUP to "
                  "determine available tables)");
    }
    if (std::ranges::find(spec.databases(), name) == spec.databases().end()) {
      spec.add_databases(name);
    }
  }
}

void add_tables(const sql::Restore& statement, const Manifest& manifest, Behind behind,
                sql::SessionContext& session, ObjectRestoreSpec& spec) {
  Resolver resolver(manifest, behind, session);
  for (const auto& pattern : statement.targets.tables) {
    *spec.add_tables() = resolver.resolve(pattern);
  }
  const auto& first = spec.tables(0).database();
  const bool one = std::ranges::all_of(
      spec.tables(), [&](const auto& pattern) { return pattern.database() == first; });
  spec.set_into_db(statement.options.text("into_db").value_or(one ? first : ""));
}

}  // namespace

void require_object_right(sql::Targets::Kind kind, sql::SessionContext& session) {
  if (kind != sql::Targets::Kind::SystemUsers) {
    return require_administrator(session, "restore databases and tables");
  }
  if (session.local_administrator()) return;
  // Superusers are among what is made, of whom members of the administrators' role need not be any.
  const auto super = session.query(
      "SELECT r.rolsuper FROM pg_catalog.pg_roles AS r"
      " WHERE r.rolname OPERATOR(pg_catalog.=) current_user");
  if (!super.rows.empty() && super.rows[0].at(0) == "t") return;
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("only superusers are allowed to restore system users: user {} is none",
                          current_user(session)));
}

void check_object_options(const sql::Restore& statement) {
  if (system_users(statement)) return check_user_options(statement.options);
  const std::string_view name = databases(statement) ? "RESTORE DATABASE" : "RESTORE TABLE";
  refuse_unsupported_options(statement.options, name, kServed);
  const auto& options = statement.options;
  for (const auto& option : options.list) {
    for (const std::string_view cluster : {"data_directory", "tablespace_mapping", "delta"}) {
      if (option.name == cluster) {
        wrong_option(
            fmt::format("cannot use \"{}\" option when restoring databases or tables", cluster));
      }
    }
    if (option.name == "max_rate") {
      refuse_missing(fmt::format("{} option max_rate", name),
                     "a limit for the rate of single objects");
    }
  }
  if (options.flag("verify_backup_table_data") && !options.flag("schema_only")) {
    wrong_option("to set the verify_backup_table_data option, the schema_only option must be set");
  }
  if (databases(statement)) {
    if (options.find("into_db")) {
      wrong_option("cannot use \"into_db\" option when restoring database(s)");
    }
    for (const std::string_view only_tables : {"into_schema", "new_table_name", "where"}) {
      for (const auto& option : options.list) {
        if (option.name == only_tables) {
          wrong_option(
              fmt::format("cannot use \"{}\" option when restoring database(s)", only_tables));
        }
      }
    }
    if (options.find("new_db_name") && statement.targets.databases.size() != 1) {
      wrong_option(
          "new_db_name can only be used for RESTORE DATABASE with a single target database");
    }
    return;
  }
  if (options.find("new_db_name")) {
    wrong_option("new_db_name can only be used for RESTORE DATABASE with a single target database");
  }
  if (options.find("new_table_name") &&
      (statement.targets.tables.size() != 1 || statement.targets.tables[0].wildcard)) {
    wrong_option("new_table_name can only be used for RESTORE TABLE with a single target table");
  }
  check_filter(statement);
}

void check_object_privileges(sql::SessionContext& session, ObjectRestoreSpec& spec) {
  // A backup's catalogs are code: the workshop runs what they define before anything can be
  // checked.
  require_object_right(
      spec.system_users() ? sql::Targets::Kind::SystemUsers : sql::Targets::Kind::Tables, session);
  spec.set_administrator(is_administrator(session));
  spec.set_local_administrator(session.local_administrator());
  spec.set_user(current_user(session));
  spec.clear_roles();
  if (spec.administrator()) return;
  if (spec.grants()) {
    throw Error(sqlstate::kInsufficientPrivilege,
                fmt::format("only superusers and members of the role {} are allowed to use option "
                            "grants: user {} is neither",
                            kAdministratorRole, spec.user()));
  }
  if (spec.databases_size() != 0) {
    const auto may = session.query(
        "SELECT r.rolcreatedb FROM pg_catalog.pg_roles AS r"
        " WHERE r.rolname OPERATOR(pg_catalog.=) current_user");
    if (may.rows.empty() || may.rows[0].at(0) != "t") {
      throw Error(sqlstate::kInsufficientPrivilege,
                  "only users with the CREATEDB privilege can restore databases");
    }
  }
  const auto roles = session.query(
      "SELECT r.rolname FROM pg_catalog.pg_roles AS r"
      " WHERE pg_catalog.pg_has_role(r.oid, 'MEMBER')");
  for (const auto& row : roles.rows) spec.add_roles(row.at(0).value_or(""));
}

ObjectRestoreSpec make_object_spec(const sql::Restore& statement, const Manifest& manifest,
                                   Behind behind, sql::SessionContext& session) {
  if (!session.server_available()) {
    throw Error(sqlstate::kCannotConnectNow,
                "could not restore databases, tables or roles: PostgreSQL is down")
        .hint("RESTORE FROM … brings a whole cluster back.");
  }
  require_primary(session, system_users(statement) ? "RESTORE SYSTEM USERS"
                           : databases(statement)  ? "RESTORE DATABASE"
                                                   : "RESTORE TABLE");
  const auto& options = statement.options;
  ObjectRestoreSpec spec;
  spec.set_grants(options.flag("grants"));
  spec.set_schema_only(options.flag("schema_only"));
  spec.set_verify_data(options.flag("verify_backup_table_data"));
  spec.set_skip_missing_foreign_keys(options.flag("skip_missing_foreign_keys"));
  spec.set_skip_missing_sequences(options.flag("skip_missing_sequences"));
  spec.set_skip_missing_sequence_owners(options.flag("skip_missing_sequence_owners"));
  spec.set_skip_missing_views(options.flag("skip_missing_views"));
  spec.set_skip_missing_udfs(options.flag("skip_missing_udfs"));
  spec.set_into_schema(options.text("into_schema").value_or(""));
  spec.set_new_table_name(options.text("new_table_name").value_or(""));
  spec.set_where(options.text("where").value_or(""));
  spec.set_new_db_name(options.text("new_db_name").value_or(""));
  if (system_users(statement)) {
    require_users(manifest);
    spec.set_system_users(true);
  } else if (databases(statement)) {
    add_databases(statement, manifest, spec);
  } else {
    add_tables(statement, manifest, behind, session, spec);
  }
  check_object_privileges(session, spec);
  return spec;
}

}  // namespace holdfast::statements
