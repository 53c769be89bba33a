#pragma once

#include "base/clock.h"
#include "sql/statement_runner.h"
#include "sql/statements.h"

namespace holdfast::statements {

/// The moment that OLDER THAN names: a timestamp, nanoseconds since 1970, or an age (an interval
/// before `now`, with or without a sign). What we do not read ourselves, as months, PostgreSQL is
/// asked for. Throws kInvalidParameterValue, or PostgreSQL's own error.
Time older_than_time(const sql::Expression& expression, sql::SessionContext& session, Time now);

}  // namespace holdfast::statements
