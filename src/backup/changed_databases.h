#pragma once

#include <cstdint>
#include <set>

#include "base/stop.h"
#include "postgres/connection.h"
#include "postgres/lsn.h"

namespace holdfast::backup {

/// The oldest transaction that is running, with epoch: whatever happens from here on is the work of
/// this one or of later ones.
std::uint64_t oldest_transaction(postgres::Connection& connection, const Stop& stop);

/// The OIDs of databases that `since` (of oldest_transaction(); 0: not known, then all databases)
/// or a later transaction created, moved or altered. Creating and moving a database copies files,
/// whose pages keep their LSNs: only the catalog tells.
std::set<std::uint32_t> databases_changed_since(postgres::Connection& connection,
                                                std::uint64_t since, const Stop& stop);

/// Whether a database was created or moved since then, or is being so.
bool databases_may_be_copied(postgres::Connection& connection, std::uint64_t since,
                             const Stop& stop);

/// Behind every record that was written by now; on a standby, behind every one that was replayed.
postgres::Lsn server_position(postgres::Connection& connection, const Stop& stop);

/// Whether the transaction that a row's xmin names may be `since` or a later one; `next` is the
/// first that has not begun, with epoch.
bool may_be_since(std::uint32_t xmin, std::uint64_t since, std::uint64_t next);

}  // namespace holdfast::backup
