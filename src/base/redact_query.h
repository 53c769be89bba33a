#pragma once

#include <string>
#include <string_view>

namespace holdfast {

/// The query of a storage or key URI, what stands behind its "?": NAME=value, separated by "&".
/// Values are replaced by "redacted" but for those of parameters that are known to be harmless, so
/// that a parameter nobody thought of is never shown. So is what has no "=" (the rest, perhaps, of
/// a secret that has an "&" in it), what follows a "#", and an endpoint with a user before its
/// host.
std::string redact_query(std::string_view query);

}  // namespace holdfast
