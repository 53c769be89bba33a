#include "statements/backup_rights.h"

#include <fmt/format.h>

#include <string_view>

#include "base/error.h"
#include "sql/lexer.h"
#include "statements/privileges.h"
#include "storage/external_uri.h"

namespace holdfast::statements {

namespace {

using collection::proto::ScopeDatabase;
using collection::proto::ScopeTable;
using postgres::Connection;

/// By OID: neither a new name nor another thing under the old one changes whose it is.
void require_scope(const LiveServer& live, const ScopeDatabase& database,
                   sql::SessionContext& session, const Stop& stop) {
  Connection shared = Connection::open(live(), stop);
  const auto found = shared.query(
      "SELECT datname, pg_catalog.pg_get_userbyid(datdba) FROM pg_catalog.pg_database"
      " WHERE oid = $1::pg_catalog.oid",
      {std::to_string(database.oid())}, stop);
  if (found.rows() == 0) return;
  const std::string name = found.text(0, 0);
  if (database.tables().empty()) {
    return require_ownership(session, found.text(0, 1), fmt::format("database {}", name));
  }
  require_connect(session, name);
  postgres::ConnectOptions options = live();
  options.database = name;
  Connection connection = Connection::open(options, stop);
  for (const ScopeTable& table : database.tables()) {
    const auto relation = connection.query(
        "SELECT relname, pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class"
        " WHERE oid = $1::pg_catalog.oid",
        {std::to_string(table.oid())}, stop);
    if (relation.rows() == 0) continue;
    require_ownership(session, relation.text(0, 1),
                      fmt::format("relation {}", relation.text(0, 0)));
  }
}

}  // namespace

void require_ownership(sql::SessionContext& session, const std::string& owner,
                       const std::string& what) {
  if (is_member(session, owner)) return;
  throw Error(
      sqlstate::kInsufficientPrivilege,
      fmt::format("user {} does not have BACKUP privilege on {}", current_user(session), what))
      .hint(fmt::format("Its owner, superusers and members of the role {} have it.",
                        kAdministratorRole));
}

void require_connect(sql::SessionContext& session, const std::string& database) {
  const auto allowed = session.query(fmt::format(
      "SELECT pg_catalog.has_database_privilege({}, 'CONNECT')", sql::quote_literal(database)));
  if (!allowed.rows.empty() && allowed.rows[0].at(0).value_or("f") == "t") return;
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("permission denied for database {}", database));
}

void require_prepared_storage(const Stores& stores, const std::string& uri,
                              sql::SessionContext& session) {
  if (is_administrator(session)) return;
  if (storage::is_external(uri)) {
    const std::string name(storage::parse_external_uri(uri).name);
    const auto* const connections = stores.connections();
    if (connections == nullptr || connections->grantees(name, "update").empty()) return;
    throw Error(sqlstate::kInsufficientPrivilege,
                fmt::format("databases and tables cannot be backed up to external connection "
                            "\"{}\", which others than administrators may point elsewhere",
                            name))
        .detail(
            "Such a backup holds the catalogs that all databases share, with what roles log in "
            "with.")
        .hint("Have an administrator REVOKE UPDATE on it, or take the backup.");
  }
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("only superusers and members of the role {} are allowed to back up "
                          "databases and tables to a storage URI: user {} is neither",
                          kAdministratorRole, current_user(session)))
      .detail(
          "Such a backup holds the catalogs that all databases share, with what roles log in with.")
      .hint("Back up to an external connection that an administrator has made and granted.");
}

void limit_to_rights(bool administrator, backup::proto::BackupJobSpec& spec) {
  if (administrator) return;
  // PostgreSQL keeps WAL for an archive: who is no administrator may not have it do so for good.
  spec.set_unprotected(true);
  const auto refused = [](std::string_view option) {
    return Error(sqlstate::kInsufficientPrivilege,
                 fmt::format("only superusers and members of the role {} are allowed to use option "
                             "{} for a backup of databases or tables",
                             kAdministratorRole, option))
        .hint(fmt::format("Leave {} out.", option));
  };
  if (spec.revision_history()) {
    throw refused("revision_history").detail("The server keeps its WAL until the next backup.");
  }
  if (spec.max_rate() != 0) {
    throw refused("max_rate").detail("The server keeps its WAL as long as such a backup runs.");
  }
}

void check_backup_rights(Stores& stores, const LiveServer& live, sql::SessionContext& session,
                         backup::proto::BackupJobSpec& spec, const Stop& stop) {
  std::vector<std::string> places{spec.collection_uri()};
  if (!spec.incremental_uri().empty()) places.push_back(spec.incremental_uri());
  for (const std::string& uri : places) check_storage_use(stores, uri, session);
  if (is_administrator(session)) return;
  if (spec.scope().empty()) return require_cluster_privilege(session, ClusterPrivilege::Backup);
  if (!spec.object_lock().empty()) require_administrator(session, "lock objects");
  for (const std::string& uri : places) require_prepared_storage(stores, uri, session);
  for (const auto& database : spec.scope()) require_scope(live, database, session, stop);
  limit_to_rights(false, spec);
}

}  // namespace holdfast::statements
