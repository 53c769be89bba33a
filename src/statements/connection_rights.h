#pragma once

#include <string_view>

#include "sql/statement_runner.h"
#include "state/external_connections.h"

namespace holdfast::statements {

/// What may be done with an external connection: by its owner (which may be a role that the user is
/// a member of) and by administrators. Using one needs no right to what it stands for.
enum class ConnectionRight { Usage, Update, Drop, Show };

bool has_right(sql::SessionContext& session, const state::ExternalConnection& connection);

/// Throws kInsufficientPrivilege.
void require_right(sql::SessionContext& session, const state::ExternalConnection& connection,
                   ConnectionRight right);

/// The connection, when the user has that right. Throws kUndefinedObject, kInsufficientPrivilege.
state::ExternalConnection find_connection(const state::ExternalConnections& connections,
                                          std::string_view name, sql::SessionContext& session,
                                          ConnectionRight right);

}  // namespace holdfast::statements
