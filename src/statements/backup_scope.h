#pragma once

#include "backup/scope.h"
#include "base/stop.h"
#include "sql/statement_runner.h"
#include "sql/statements.h"
#include "statements/backup_rights.h"

namespace holdfast::statements {

/// What the targets of BACKUP DATABASE or BACKUP TABLE are, and that the session's user may back
/// them up: table patterns are resolved by the session's database and search_path. `x.*` is a
/// schema of that database, or else a whole database. Throws CockroachDB's "failed to resolve
/// targets specified in the BACKUP stmt: …", and kInsufficientPrivilege.
backup::Scope resolve_backup_scope(const sql::Targets& targets, const LiveServer& live,
                                   sql::SessionContext& session, const Stop& stop);

}  // namespace holdfast::statements
