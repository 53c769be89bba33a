#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace holdfast::storage {

/// scheme://host/path?NAME=value&…, percent-decoded. The scheme is lower-cased.
struct StorageUri {
  std::string scheme;
  std::string host;
  std::string path;  ///< without the leading "/"
  std::vector<std::pair<std::string, std::string>> parameters;
};

/// Throws kInvalidParameterValue when `text` is no URI (no scheme, bad percent escape, NUL). The
/// message holds no more of it than redact_uri() shows.
StorageUri parse_uri(std::string_view text);

/// Whether the URI reaches something that its own secrets do not open: files of the daemon's host,
/// tables that the daemon reads as a superuser, credentials of the daemon, or a server of the
/// user's choice from inside the daemon's network.
bool reaches_as_daemon(const StorageUri& uri);

/// The URI as it may be shown and logged: values of parameters that may be secret, and a password
/// before "@", are replaced by "redacted". Never throws: what is no URI is shown as "redacted".
std::string redact_uri(std::string_view text);

}  // namespace holdfast::storage
