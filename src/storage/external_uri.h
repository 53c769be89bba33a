#pragma once

#include <string>
#include <string_view>

namespace holdfast::storage {

inline constexpr std::string_view kExternalScheme = "external";

/// external://name[/path][?COCKROACH_LOCALITY=…]: a place below the one that the external
/// connection of that name stands for.
struct ExternalUri {
  std::string name;      ///< decoded
  std::string path;      ///< as written, without the leading "/"; may be empty
  std::string locality;  ///< "COCKROACH_LOCALITY=…" as written; may be empty
};

/// Whether `uri` has the scheme, in any case.
bool is_external(std::string_view uri);

/// Throws kInvalidParameterValue when the name is missing or other parameters are given: a
/// connection's parameters stand in the connection.
ExternalUri parse_external_uri(std::string_view uri);

/// The URI that is meant, when the connection stands for `connection_uri`: the path goes to the end
/// of its path, before its parameters.
std::string resolve_external_uri(const ExternalUri& uri, std::string_view connection_uri);

}  // namespace holdfast::storage
