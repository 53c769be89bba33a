#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace holdfast::cli {

struct SqlClientOptions {
  std::string url;                      ///< libpq connection string or URI of the front door
  std::vector<std::string> statements;  ///< of -e, in order; empty: read from `in`
};

/// `holdfast sql`: sends statements to the front door and prints results as aligned tables, notices
/// and errors to `errors`. Statements of -e stop at the first error (status 1); at a prompt an
/// error is shown and the next line read.
int run_sql_client(const SqlClientOptions& options, std::istream& in, std::ostream& out,
                   std::ostream& errors);

}  // namespace holdfast::cli
