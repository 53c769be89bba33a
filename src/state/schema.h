#pragma once

#include <span>

namespace holdfast::state {

/// The steps that lead from an empty file to the current schema. Step n takes the file from
/// user_version n to n + 1. A step that was ever released is never changed: a new one is added.
std::span<const char* const> migrations();

}  // namespace holdfast::state
