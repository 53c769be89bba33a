#pragma once

#include "sql/options.h"
#include "sql/token_reader.h"

namespace holdfast::sql {

/// WITH x,… | WITH OPTIONS (x,…), of the options in `lists`; nothing when no WITH comes next. An
/// option given twice, or two that exclude each other, are errors.
Options parse_options(TokenReader& reader, unsigned lists);

/// The list alone: x,… or (x,…).
Options parse_option_list(TokenReader& reader, unsigned lists);

/// One option, added to `options`.
void parse_option(TokenReader& reader, unsigned lists, Options& options);

}  // namespace holdfast::sql
