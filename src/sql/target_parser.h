#pragma once

#include <string_view>

#include "sql/statements.h"
#include "sql/token_reader.h"

namespace holdfast::sql {

/// Targets before the word `end` ("into" or "from"), which is not taken. No targets: the cluster.
Targets parse_targets(TokenReader& reader, std::string_view end);

/// {'subdir' | LATEST}
Subdirectory parse_subdirectory(TokenReader& reader);

/// A path that says latest, in any case, as LATEST.
Subdirectory subdirectory_of(Text path);

/// Identifier, string or parameter.
Text parse_name_or_string(TokenReader& reader);

}  // namespace holdfast::sql
