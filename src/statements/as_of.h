#pragma once

#include "base/clock.h"
#include "collection/moment.h"
#include "sql/statements.h"

namespace holdfast::statements {

/// The moment that AS OF SYSTEM TIME names: a timestamp, nanoseconds since 1970 (as a number or a
/// string, also with CockroachDB's logical part), or a negative interval before `now`. Throws
/// kInvalidParameterValue, kFeatureNotSupported for other expressions.
Time as_of_time(const sql::Expression& expression, Time now);

/// The moment of a history that AS OF SYSTEM TIME names: a time as above, LSN 'x/y', or
/// RESTORE POINT 'name'; MILESTONE is the caller's (milestone_statements.h). Throws also what
/// MomentFinder throws.
collection::Moment find_moment(const sql::Expression& expression,
                               const collection::MomentFinder& finder, Time now);

}  // namespace holdfast::statements
