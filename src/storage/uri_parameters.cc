#include "storage/uri_parameters.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace holdfast::storage {

UriParameters::UriParameters(const StorageUri& uri, std::string_view kind)
    : kind_(kind), left_(uri.parameters) {}

std::string UriParameters::take(std::string_view name) {
  const auto named = [&](const auto& parameter) { return parameter.first == name; };
  const auto found = std::find_if(left_.begin(), left_.end(), named);
  if (found == left_.end()) return "";
  std::string value = std::move(found->second);
  left_.erase(found);
  if (std::any_of(left_.begin(), left_.end(), named)) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("parameter {} stands in the storage URI twice", name));
  }
  return value;
}

bool UriParameters::take_flag(std::string_view name) {
  const std::string value = take(name);
  // Those that CockroachDB takes (Go's strconv.ParseBool).
  for (const char* yes : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (value == yes) return true;
  }
  for (const char* no : {"", "0", "f", "F", "false", "FALSE", "False"}) {
    if (value == no) return false;
  }
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("parameter {} of the storage URI is neither true nor false", name));
}

void UriParameters::finish() const {
  std::string unknown;
  for (const auto& [name, value] : left_) {
    if (name == "COCKROACH_LOCALITY") {
      throw Error(sqlstate::kFeatureNotSupported, "locality-aware backups are not supported yet");
    }
    unknown += (unknown.empty() ? "" : ", ") + name;
  }
  if (unknown.empty()) return;
  // The wording of CockroachDB (reference, section 6), which scripts look for.
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("unknown {} query parameters: {}", kind_, unknown));
}

std::string normalize_path(const std::string& path, std::string_view shown_uri,
                           std::string_view root) {
  std::string key;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t slash = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, slash - at);
    at = slash + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("storage URI \"{}\" leads out of {}", shown_uri, root))
          .detail("\"..\" is not allowed in the path of a storage URI.");
    }
    key += (key.empty() ? "" : "/") + part;
  }
  return key;
}

}  // namespace holdfast::storage
