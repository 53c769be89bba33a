#pragma once

#include "base/stop.h"
#include "postgres/connection.h"

namespace holdfast::restore {

/// Takes away, in a database of the workshop, what a role without rights could still reach more
/// with than rows it may read: functions that superusers keep to themselves, or that run a query
/// given as text; foreign tables; and users' code, whoever asks for it. Also where PostgreSQL calls
/// a function without asking for the right to, as it does with those of ranges. pg_dump reads
/// nothing of what is changed for tables and types.
void lock_down(postgres::Connection& superuser, const Stop& stop);

/// Lets the planner estimate conditions on ranges without users' functions, which are out of order
/// after lock_down(). Once definitions were dumped: these functions are part of them.
void forget_range_estimates(postgres::Connection& superuser, const Stop& stop);

}  // namespace holdfast::restore
