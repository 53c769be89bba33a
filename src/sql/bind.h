#pragma once

#include <cstddef>
#include <span>

#include "sql/row_sink.h"
#include "sql/statements.h"

namespace holdfast::sql {

/// The highest n of the statement's $n; 0 when it has none.
std::size_t parameter_count(const Statement& statement);

/// Puts the values of $1, $2, … in their places: into each Text, into each Expression (which
/// becomes a String), and as literals into the source text of queries and other expressions, where
/// NULL is allowed. Throws 08P01 when there are fewer values than parameter_count(), and 22004 when
/// NULL stands for a string that the statement needs.
void bind_parameters(Statement& statement, std::span<const Value> values);

}  // namespace holdfast::sql
