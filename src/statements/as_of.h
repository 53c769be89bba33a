#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "collection/collection.h"
#include "sql/statements.h"

namespace holdfast::statements {

/// The moment that AS OF SYSTEM TIME names: a timestamp, nanoseconds since 1970 (as a number or a
/// string, also with CockroachDB's logical part), or a negative interval before `now`. Throws
/// kInvalidParameterValue, kFeatureNotSupported for other expressions.
Time as_of_time(const sql::Expression& expression, Time now);

/// The layer that ends at just this moment. Without revision history nothing between two ends can
/// be restored: throws kInvalidParameterValue with the ends that are nearest.
std::string layer_ending_at(const std::vector<collection::proto::Manifest>& layers, Time moment);

}  // namespace holdfast::statements
