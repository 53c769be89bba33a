#pragma once

#include <functional>
#include <string>

#include "backup_job.pb.h"
#include "base/stop.h"
#include "postgres/connection.h"
#include "sql/statement_runner.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// How to reach the live server as holdfast's own role. Throws kCannotConnectNow while it is down.
using LiveServer = std::function<postgres::ConnectOptions()>;

/// Throws kInsufficientPrivilege unless the session's user is a member of `owner`, who owns `what`
/// ("database bank", "relation customers").
void require_ownership(sql::SessionContext& session, const std::string& owner,
                       const std::string& what);
/// Throws kInsufficientPrivilege unless he may connect to the database.
void require_connect(sql::SessionContext& session, const std::string& database);

/// Throws kInsufficientPrivilege when somebody who is no administrator names storage that he may
/// have the keys of. Such a backup holds the catalogs that all databases share, with what roles log
/// in with, so that it may only go where an administrator has prepared a place: an external
/// connection that nobody else may point elsewhere.
void require_prepared_storage(const Stores& stores, const std::string& uri,
                              sql::SessionContext& session);

/// What a backup of databases or tables may cost the server, for whom: writes into `spec` what
/// follows for one who is no administrator, and throws kInsufficientPrivilege for what he may not
/// choose.
void limit_to_rights(bool administrator, backup::proto::BackupJobSpec& spec);

/// Whether the session's user may have this backup: throws what the statement would throw now, and
/// writes what follows from his rights into `spec`. What of its scope is gone is not this one's to
/// tell. Asked for again whenever the job starts.
void check_backup_rights(Stores& stores, const LiveServer& live, sql::SessionContext& session,
                         backup::proto::BackupJobSpec& spec, const Stop& stop);

}  // namespace holdfast::statements
