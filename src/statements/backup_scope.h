#pragma once

#include <functional>

#include "backup/scope.h"
#include "base/stop.h"
#include "postgres/connection.h"
#include "sql/statement_runner.h"
#include "sql/statements.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// How to reach the live server as holdfast's own role. Throws kCannotConnectNow while it is down.
using LiveServer = std::function<postgres::ConnectOptions()>;

/// What the targets of BACKUP DATABASE or BACKUP TABLE are, and that the session's user may back
/// them up: table patterns are resolved by the session's database and search_path. `x.*` is a
/// schema of that database, or else a whole database. Throws CockroachDB's "failed to resolve
/// targets specified in the BACKUP stmt: …", and kInsufficientPrivilege.
backup::Scope resolve_backup_scope(const sql::Targets& targets, const LiveServer& live,
                                   sql::SessionContext& session, const Stop& stop);

/// Throws kInsufficientPrivilege when somebody who is no administrator names storage that he may
/// have the keys of. Such a backup holds the catalogs that all databases share, with what roles log
/// in with, so that it may only go where an administrator has prepared a place: an external
/// connection that nobody else may point elsewhere.
void require_prepared_storage(const Stores& stores, const std::string& uri,
                              sql::SessionContext& session);

}  // namespace holdfast::statements
