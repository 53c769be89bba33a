#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sql/row_sink.h"
#include "sql/split.h"

namespace holdfast::sql {

/// One use of a SHOW statement as a table: `[SHOW …]`, or `(SHOW …)` as the body of a WITH item; or
/// of a table of ours, `information_schema.mv_…`, behind FROM, JOIN, TABLE, a comma or a bracket.
struct RowSource {
  TextRange range;                       ///< with its brackets, or TABLE before it
  TextRange statement;                   ///< the statement inside, or the table
  bool common_table_expression = false;  ///< WITH name AS (SHOW …)
  bool whole_query = false;              ///< TABLE …, which stands for SELECT * FROM …
  std::string alias = {};  ///< what it is called when the query does not say; or empty
};

/// The outermost row sources of a query, in order; empty when it has none or when the text breaks
/// the lexical rules. Those inside another one's statement belong to that statement.
std::vector<RowSource> find_row_sources(std::string_view query);

/// The query with each row source replaced by its rows as a VALUES list with the columns' names and
/// types, so that PostgreSQL can run it. `results` has one entry for each of `sources`. An alias is
/// added where none follows. Does not depend on standard_conforming_strings.
std::string replace_row_sources(std::string_view query, std::span<const RowSource> sources,
                                std::span<const QueryResult> results);

}  // namespace holdfast::sql
