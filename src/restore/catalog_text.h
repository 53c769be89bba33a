#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace holdfast::restore {

/// "'a', 'b'", for IN (…).
std::string schema_list(const std::vector<std::string>& schemas);
/// A condition on pg_namespace n: one of `schemas`; where there are none, any that is the user's.
std::string schema_filter(const std::vector<std::string>& schemas);
/// Both parts quoted.
std::string qualified(const std::string& schema, const std::string& name);
/// As libpq takes a value in a connection string.
std::string quote_conninfo_value(std::string_view value);

}  // namespace holdfast::restore
