#include "statements/connection_rights.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

/// As the state file names them.
std::vector<std::string_view> privileges_that_give(ConnectionRight right) {
  switch (right) {
    case ConnectionRight::Usage:
      return {"usage"};
    case ConnectionRight::Update:
      return {"update"};
    case ConnectionRight::Drop:
      return {"drop"};
    case ConnectionRight::See:
      return {"usage", "update", "drop"};
    case ConnectionRight::Own:
      break;
  }
  return {};
}

std::string_view word_for(ConnectionRight right) {
  switch (right) {
    case ConnectionRight::Update:
      return "UPDATE";
    case ConnectionRight::Drop:
      return "DROP";
    case ConnectionRight::Own:
      return "ALL";
    default:
      return "USAGE";
  }
}

}  // namespace

bool has_right(const state::ExternalConnections& connections, sql::SessionContext& session,
               const state::ExternalConnection& connection, ConnectionRight right) {
  if (is_administrator(session) || is_member(session, connection.owner)) return true;
  return std::ranges::any_of(privileges_that_give(right), [&](std::string_view privilege) {
    return std::ranges::any_of(
        connections.grantees(connection.name, privilege),
        [&](const std::string& role) { return role == "public" || is_member(session, role); });
  });
}

state::ExternalConnection find_connection(const state::ExternalConnections& connections,
                                          std::string_view name, sql::SessionContext& session,
                                          ConnectionRight right) {
  std::optional<state::ExternalConnection> connection = connections.find(name);
  if (!connection) {
    throw Error(sqlstate::kUndefinedObject,
                fmt::format("external connection \"{}\" does not exist", name))
        .hint("SHOW EXTERNAL CONNECTIONS lists them.");
  }
  if (!has_right(connections, session, *connection, right)) {
    throw Error(sqlstate::kInsufficientPrivilege,
                fmt::format("user {} does not have {} privilege on external_connection {}",
                            current_user(session), word_for(right), connection->name))
        .hint(fmt::format("Its owner, superusers and members of the role {} have it.",
                          kAdministratorRole));
  }
  return *std::move(connection);
}

}  // namespace holdfast::statements
