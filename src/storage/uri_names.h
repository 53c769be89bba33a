#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"

namespace holdfast::storage {

/// What a name in a storage URI may consist of. Names become parts of the URL that is asked, also
/// of its host: one with a "/", ":" or "@" in it would lead to a server of the writer's choice.
struct NameRule {
  std::string_view what;   ///< for the message: "AWS_REGION", "the bucket of the s3 URI"
  std::string_view extra;  ///< allowed beside a to z and 0 to 9
  std::size_t shortest = 1;
  std::size_t longest = 63;  ///< as a label of a host's name
};

/// Throws kInvalidParameterValue unless `name` follows the rule, and where it has dots, has none at
/// an end nor two in a row.
void check_name(std::string_view name, const NameRule& rule);

/// kInvalidParameterValue: what a URI or its parameters say cannot be.
Error invalid_parameter(std::string message);

/// ASCII letters only, whatever the locale.
std::string lower_case(std::string_view text);

}  // namespace holdfast::storage
