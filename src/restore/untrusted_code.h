#pragma once

#include <string>

#include "postgres/connection.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

/// Rows are written with holdfast's own rights, and a user who may not restore everything must not
/// have code of his run with them. What PostgreSQL evaluates while rows come in (checks of tables
/// and domains, generated columns, expressions of partition keys) is refused, and so is what does
/// not belong to him. `relations` is a query for the OIDs of the relations. Fine for
/// administrators.
void require_harmless(const ObjectRestoreRun& run, postgres::Connection& workshop,
                      const std::string& relations);

}  // namespace holdfast::restore
