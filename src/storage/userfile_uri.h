#pragma once

#include <string>
#include <string_view>

#include "storage/uri.h"

namespace holdfast::storage {

/// The database that holds the userfile tables of those who name none. The reference's is
/// "defaultdb", which PostgreSQL does not have.
inline constexpr std::string_view kUserfileDatabase = "postgres";

/// Where userfile://[database.schema.prefix]/path keeps its objects: in the tables
/// "<prefix>_upload_files" and "<prefix>_upload_payload".
struct UserfilePlace {
  std::string database;
  std::string schema;
  std::string prefix;
  std::string path;  ///< a key, or empty

  std::string files_table() const { return prefix + "_upload_files"; }
  std::string payload_table() const { return prefix + "_upload_payload"; }
  /// "userfile://database.schema.prefix/path"
  std::string uri() const;
};

bool is_userfile(std::string_view uri);

/// Throws kInvalidParameterValue when the host is neither empty nor three names, when a name is too
/// long for PostgreSQL, when the path is not as it would be written plainly, and for parameters.
/// `user` owns the tables of an empty host: userfiles_<user>, or userfilesx_<hex> where the name is
/// no plain identifier. An empty host without a user is refused.
UserfilePlace parse_userfile_uri(std::string_view uri, std::string_view user);

/// A userfile URI with an empty host as it is for this user; any other URI as it is.
std::string own_userfile_uri(std::string_view uri, std::string_view user);

/// "a/b" of "a//./b/": what path.Clean of the reference's language makes of it.
std::string clean_userfile_path(std::string_view path);

}  // namespace holdfast::storage
