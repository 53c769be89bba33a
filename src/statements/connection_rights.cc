#include "statements/connection_rights.h"

#include <fmt/format.h>

#include "base/error.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

std::string_view name_of(ConnectionRight right) {
  switch (right) {
    case ConnectionRight::Usage:
      return "USAGE";
    case ConnectionRight::Update:
      return "UPDATE";
    case ConnectionRight::Drop:
      return "DROP";
    case ConnectionRight::Show:
      break;
  }
  return "SHOW";
}

}  // namespace

bool has_right(sql::SessionContext& session, const state::ExternalConnection& connection) {
  return is_administrator(session) || is_member(session, connection.owner);
}

void require_right(sql::SessionContext& session, const state::ExternalConnection& connection,
                   ConnectionRight right) {
  if (has_right(session, connection)) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("user {} does not have {} privilege on external_connection {}",
                          current_user(session), name_of(right), connection.name))
      .hint(fmt::format("Its owner, superusers and members of the role {} have it.",
                        kAdministratorRole));
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
  require_right(session, *connection, right);
  return *std::move(connection);
}

}  // namespace holdfast::statements
