#pragma once

#include <string>
#include <vector>

#include "postgres/connection.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

/// What a plain ANALYZE looks at in a database, the largest first: qualified and quoted names.
/// Partitions come with the table that they belong to.
std::vector<std::string> list_analyzed(postgres::Connection& target, const Stop& stop);

/// ANALYZE of these relations, in this order, with several connections.
void gather_statistics(const ObjectRestoreRun& run, const postgres::ConnectOptions& target,
                       const std::vector<std::string>& relations, const Stop& stop);

}  // namespace holdfast::restore
