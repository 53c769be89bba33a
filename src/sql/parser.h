#pragma once

#include <string_view>

#include "sql/statements.h"

namespace holdfast::sql {

/// Parses one of our statements, with or without a `;` at its end. Throws Error: 42601 with the
/// position (1-based, in characters) for text that is not in the grammar, 42601 or 22023 for
/// options that are given twice or exclude each other.
Statement parse(std::string_view text);

}  // namespace holdfast::sql
