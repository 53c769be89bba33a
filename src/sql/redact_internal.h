#pragma once

#include <string>
#include <string_view>

namespace holdfast::sql {

inline constexpr std::string_view kHidden = "*****";

/// What becomes of strings that are neither URIs nor the value of a secret option.
enum class Strings { Keep, Hide };

/// A source text with its secrets hidden, whether or not it is a statement: the values of secret
/// options, what redact_uri() hides in strings, an open string to its end.
std::string redact_source(std::string_view source, Strings others);

}  // namespace holdfast::sql
