#pragma once

#include <string_view>

#include "sql/statement_runner.h"

namespace holdfast::sql {

/// What the statement is to holdfast, told by its first words alone. Costs nanoseconds for text
/// that goes to PostgreSQL: only a query with a "[SHOW", a "(SHOW" or an "mv_" in it is looked at
/// further.
/// Never throws; text that breaks PostgreSQL's lexical rules is NotOurs. Ours does not promise that
/// the statement parses.
StatementKind recognise(std::string_view statement) noexcept;

}  // namespace holdfast::sql
