#pragma once

#include <vector>

#include "sql/row_sink.h"
#include "sql/statements.h"

namespace holdfast::sql {

/// The columns that the statement returns, in order; empty when it returns no rows.
/// Source: CockroachDB 25.4.
std::vector<Column> columns_of(const Statement& statement);

}  // namespace holdfast::sql
