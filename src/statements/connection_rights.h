#pragma once

#include <string_view>

#include "sql/statement_runner.h"
#include "state/external_connections.h"

namespace holdfast::statements {

/// What may be done with an external connection. Administrators and members of the role that owns
/// it may do all; USAGE, UPDATE and DROP can be granted to other roles. Using one needs no right to
/// what it stands for.
enum class ConnectionRight {
  Usage,
  Update,
  Drop,
  See,  ///< that it exists, without its secrets: anybody who may do anything with it
  Own   ///< its secrets, and to grant rights on it: cannot be granted
};

bool has_right(const state::ExternalConnections& connections, sql::SessionContext& session,
               const state::ExternalConnection& connection, ConnectionRight right);

/// The connection, when the user has that right. Throws kUndefinedObject, kInsufficientPrivilege.
state::ExternalConnection find_connection(const state::ExternalConnections& connections,
                                          std::string_view name, sql::SessionContext& session,
                                          ConnectionRight right);

}  // namespace holdfast::statements
