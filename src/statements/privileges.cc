#include "statements/privileges.h"

#include <fmt/format.h>

#include "base/error.h"

namespace holdfast::statements {

namespace {

// Every name is qualified: a user whose search_path puts a schema of his own before pg_catalog must
// not be able to answer for PostgreSQL.
constexpr std::string_view kWhoQuery = "SELECT current_user";

constexpr std::string_view kIsAdministratorQuery =
    "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_roles AS r"
    " WHERE r.rolname OPERATOR(pg_catalog.=) current_user AND r.rolsuper)"
    " OR EXISTS (SELECT 1 FROM pg_catalog.pg_roles AS a"
    " WHERE a.rolname OPERATOR(pg_catalog.=) '{}'::pg_catalog.name"
    " AND pg_catalog.pg_has_role(a.oid, 'MEMBER'))";

constexpr std::string_view kMembershipQuery =
    "SELECT r.oid, pg_catalog.pg_has_role(r.oid, 'MEMBER') FROM pg_catalog.pg_roles AS r"
    " WHERE r.rolname OPERATOR(pg_catalog.=) {}::pg_catalog.name";

/// Right under either setting of standard_conforming_strings.
std::string quote(std::string_view text) {
  std::string quoted = "E'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

/// The only value of a query that has one row of one column.
std::string only_value(const sql::QueryResult& result) {
  if (result.rows.size() != 1 || result.rows[0].size() != 1 || !result.rows[0][0]) {
    throw Error(sqlstate::kInternalError, "unexpected answer to a question about privileges");
  }
  return *result.rows[0][0];
}

sql::QueryResult look_up_role(sql::SessionContext& session, std::string_view role) {
  if (!session.server_available()) {
    throw Error(sqlstate::kCannotConnectNow,
                fmt::format("could not look up role \"{}\": PostgreSQL is down", role));
  }
  sql::QueryResult result = session.query(fmt::format(kMembershipQuery, quote(role)));
  if (result.rows.empty()) {
    throw Error(sqlstate::kUndefinedObject, fmt::format("role \"{}\" does not exist", role));
  }
  return result;
}

std::string refusal(std::string_view what, sql::SessionContext& session) {
  return fmt::format(
      "only superusers and members of the role {} are allowed to {}: user {} is "
      "neither",
      kAdministratorRole, what, current_user(session));
}

}  // namespace

std::string current_user(sql::SessionContext& session) {
  if (session.server_available()) {
    try {
      return only_value(session.query(kWhoQuery));
    } catch (const Error&) {
      // The server went down in this very moment, as during a restore: then as if it had before.
      if (session.server_available()) throw;
    }
  }
  return session.user();
}

bool is_administrator(sql::SessionContext& session) {
  if (session.local_administrator()) return true;
  if (!session.server_available()) return false;
  return only_value(session.query(fmt::format(kIsAdministratorQuery, kAdministratorRole))) == "t";
}

void require_cluster_privilege(sql::SessionContext& session, ClusterPrivilege privilege) {
  if (is_administrator(session)) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              refusal(privilege == ClusterPrivilege::Backup ? "perform full cluster backups"
                                                            : "perform a cluster restore",
                      session))
      .hint(fmt::format("A superuser can grant the role {}.", kAdministratorRole));
}

void require_administrator(sql::SessionContext& session, std::string_view what) {
  if (is_administrator(session)) return;
  throw Error(sqlstate::kInsufficientPrivilege, refusal(what, session))
      .hint(fmt::format("A superuser can grant the role {}.", kAdministratorRole));
}

bool is_member(sql::SessionContext& session, std::string_view role) {
  if (!session.server_available()) return session.user() == role;
  if (current_user(session) == role) return true;
  const sql::QueryResult result = session.query(fmt::format(kMembershipQuery, quote(role)));
  return !result.rows.empty() && result.rows[0].at(1).value_or("f") == "t";
}

void require_role(sql::SessionContext& session, std::string_view role) {
  look_up_role(session, role);
}

void require_membership(sql::SessionContext& session, std::string_view role) {
  const sql::QueryResult result = look_up_role(session, role);
  const bool member = result.rows[0].at(1).value_or("f") == "t";
  if (!member && !is_administrator(session)) {
    throw Error(sqlstate::kInsufficientPrivilege,
                fmt::format("must be member of role \"{}\"", role));
  }
}

void require_storage_privilege(sql::SessionContext& session, std::string_view scheme) {
  if (is_administrator(session)) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              refusal(fmt::format("access the specified {} URI", scheme), session))
      .hint(fmt::format("A superuser can grant the role {}.", kAdministratorRole));
}

}  // namespace holdfast::statements
