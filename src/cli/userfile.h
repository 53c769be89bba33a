#pragma once

#include <iosfwd>
#include <string>
#include <string_view>

namespace holdfast::cli {

struct UserfileOptions {
  enum class Command { Upload, List, Get, Delete };

  Command command = Command::List;
  std::string url;        ///< libpq connection string or URI of the front door, or of PostgreSQL
  std::string user;       ///< instead of the URL's; empty: the URL's
  std::string certs_dir;  ///< holds ca.crt, client.<user>.crt and client.<user>.key; empty: none
  /// "cert-principal:db-principal,…": certificates of other names in certs_dir; empty: none.
  std::string cert_principal_map;
  bool echo_sql = false;
  bool recursive = false;  ///< Upload: `source` is a directory
  std::string source;      ///< Upload: a file or directory
  /// Upload: where to, a path or a userfile URI; empty: the source's own name. Otherwise a path,
  /// URI or pattern; empty: everything.
  std::string pattern;
  std::string destination;  ///< Get: a file or directory; empty: the present directory
};

/// `holdfast userfile`: moves files into and out of userfile tables, with the rights of whoever
/// connects. Answers the process's exit status; errors go to `errors`.
int run_userfile(const UserfileOptions& options, std::ostream& out, std::ostream& errors);

/// Whether a name is meant by a pattern: with *, ? or [ as a shell's pattern in which none of them
/// stands for "/", without them as the name itself or a directory above it. Empty: any name.
bool userfile_matches(std::string_view name, const std::string& pattern);

}  // namespace holdfast::cli
