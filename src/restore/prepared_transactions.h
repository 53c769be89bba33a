#pragma once

#include "base/stop.h"
#include "postgres/connection.h"

namespace holdfast::restore {

/// Rolls back the transactions that are prepared in the connection's database, in a workshop: they
/// had changed nothing that others could see, and would keep their locks.
void release_prepared(postgres::Connection& workshop, const Stop& stop);

}  // namespace holdfast::restore
