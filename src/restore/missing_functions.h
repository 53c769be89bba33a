#pragma once

#include "postgres/connection.h"
#include "restore/object_restore.h"
#include "restore/table_preparation.h"

namespace holdfast::restore {

/// Functions of defaults, constraints, triggers, indexes, policies and rules are not restored with
/// a table: the live server must have them. Throws the reference's error for one that is missing;
/// with skip_missing_udfs what uses it is left out of the workshop's catalogs and told in a notice.
/// What decides who sees which rows, or where they go, is never left out.
void settle_functions(const ObjectRestoreRun& run, postgres::Connection& workshop,
                      postgres::Connection& live, const TableSet& tables);

/// Whether the live server has the function that regprocedure prints so.
bool has_function(postgres::Connection& live, const std::string& identity, const Stop& stop);

}  // namespace holdfast::restore
