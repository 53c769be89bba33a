#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::restore {

enum class Fold { Yes, No };

/// The elements of a setting that is a list of names, as PostgreSQL stores it (`"$user", public`).
/// Absent when it is no such list. Names that are not quoted are in lower case with Fold::Yes.
/// Source: PostgreSQL src/backend/utils/adt/varlena.c (SplitIdentifierString).
std::optional<std::vector<std::string>> split_names(std::string_view value, Fold fold);

/// What stands behind SET name TO for a value that pg_db_role_setting has. Lists of names are
/// quoted element by element, as one literal would be one name.
std::string setting_value(const std::string& name, const std::string& value);

}  // namespace holdfast::restore
