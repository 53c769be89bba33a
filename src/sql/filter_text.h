#pragma once

#include <string_view>

namespace holdfast::sql {

/// Throws Error 42601 unless `filter`, put between parentheses, stays between them: its own
/// parentheses match, it has no semicolon, and it is not empty. What it means is for PostgreSQL to
/// say. The text comes without NUL: a parameter may have one, and it is refused.
void check_filter_text(std::string_view filter);

}  // namespace holdfast::sql
