#pragma once

#include <string_view>

#include "sql/statements.h"

namespace holdfast::statements {

/// What kind of statement it is, as people call it: "CREATE SCHEDULE", "SHOW JOBS".
std::string_view name_of(const sql::Statement& statement);

}  // namespace holdfast::statements
