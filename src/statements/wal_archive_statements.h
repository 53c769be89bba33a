#pragma once

#include "backup/wal_archives.h"
#include "statements/dispatcher.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// Adds CREATE WAL ARCHIVE, DROP WAL ARCHIVE and SHOW WAL ARCHIVES. They need what BACKUP of the
/// whole cluster needs.
void add_wal_archive_statements(Dispatcher& dispatcher, Stores& stores,
                                backup::WalArchives& archives);

}  // namespace holdfast::statements
