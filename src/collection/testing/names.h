#pragma once

#include <string_view>

namespace holdfast::collection {

/// Subdirectory of the full backup that tests begin their chains with.
inline constexpr std::string_view kFull = "2026/11/20-223000.00";

}  // namespace holdfast::collection
