#pragma once

#include <string>
#include <string_view>

#include "sql/statement_runner.h"

namespace holdfast::statements {

/// The role whose members may do what superusers may. It need not exist.
inline constexpr std::string_view kAdministratorRole = "holdfast_admin";

/// PostgreSQL's current_user of the session (SET ROLE counts); the login name while PostgreSQL is
/// down.
std::string current_user(sql::SessionContext& session);

/// The local administrator, a superuser, or a member of holdfast_admin. While PostgreSQL is down
/// only the local administrator is.
bool is_administrator(sql::SessionContext& session);

/// What cluster-wide statements need.
enum class ClusterPrivilege { Backup, Restore };

/// Throws kInsufficientPrivilege unless is_administrator().
void require_cluster_privilege(sql::SessionContext& session, ClusterPrivilege privilege);

/// The same for storage that only the daemon's own rights open: see open_for_user().
void require_storage_privilege(sql::SessionContext& session, std::string_view scheme);

/// Throws kInsufficientPrivilege unless is_administrator(); `what` completes "… are allowed to".
void require_administrator(sql::SessionContext& session, std::string_view what);

/// Whether the session's user is this role or a member of it. False for a role that does not exist;
/// while PostgreSQL is down, true for the login name alone.
bool is_member(sql::SessionContext& session, std::string_view role);

/// Throws kUndefinedObject when there is no such role, and kCannotConnectNow while PostgreSQL, who
/// knows, is down.
void require_role(sql::SessionContext& session, std::string_view role);

/// For giving things away: throws kUndefinedObject when there is no such role,
/// kInsufficientPrivilege when the session's user is neither a member of it nor an administrator,
/// and kCannotConnectNow while PostgreSQL, who knows, is down.
void require_membership(sql::SessionContext& session, std::string_view role);

}  // namespace holdfast::statements
