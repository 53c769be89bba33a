#pragma once

#include <string>

#include "sql/statements.h"
#include "state/history.h"
#include "statements/backup_statement.h"
#include "statements/dispatcher.h"
#include "statements/restore_statement.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// What SingleStore's BACKUP and RESTORE are translated into. All outlive the sessions.
struct SingleStoreServices {
  Stores& stores;
  BackupStatement& backup;
  RestoreStatement& restore;
  state::History& history;
  std::string external_io_dir;  ///< absolute paths below it can be named
};

/// Adds BACKUP DATABASE … TO and RESTORE DATABASE … FROM place. Each database has collections of
/// its own below the place: "<database>.backup" for full backups, "<database>.incr_backup" for a
/// set of an INIT and its DIFFERENTIALs.
void add_singlestore_statements(Dispatcher& dispatcher, const SingleStoreServices& services);

/// "<database>.backup" or "<database>.incr_backup", as one part of a URI's path.
enum class BackupKind { Full, Incremental };
std::string collection_name(const std::string& database, BackupKind kind);

/// The collection's URI: that of the place, and below it `name`, unless the place ends so already.
/// A path becomes nodelocal://self/path, relative to `external_io_dir`; a URI stays one. Throws
/// kInvalidParameterValue for a path outside.
std::string collection_uri(const sql::SingleStorePlace& place, const std::string& name,
                           const std::string& external_io_dir);

}  // namespace holdfast::statements
