#include "storage/external_uri.h"

#include <fmt/format.h>

#include "base/error.h"
#include "storage/uri.h"

namespace holdfast::storage {

bool is_external(std::string_view uri) {
  if (uri.size() < kExternalScheme.size() + 3) return false;
  for (std::size_t i = 0; i < kExternalScheme.size(); ++i) {
    if ((uri[i] | 0x20) != kExternalScheme[i]) return false;
  }
  return uri.substr(kExternalScheme.size(), 3) == "://";
}

ExternalUri parse_external_uri(std::string_view uri) {
  const StorageUri parsed = parse_uri(uri);
  if (parsed.scheme != kExternalScheme || parsed.host.empty()) {
    throw Error(sqlstate::kInvalidParameterValue, "invalid external connection URI")
        .hint("It looks like external://name or external://name/path.");
  }
  ExternalUri external{.name = parsed.host, .path = {}, .locality = {}};
  // The path stays encoded: the connection's own scheme decodes it.
  const std::string_view text = uri.substr(0, uri.find('#'));
  const std::string_view place = text.substr(0, text.find('?'));
  if (const auto slash = place.find('/', kExternalScheme.size() + 3); slash != place.npos) {
    external.path = place.substr(slash + 1);
  }
  std::string unknown;
  for (const auto& [name, value] : parsed.parameters) {
    if (name != "COCKROACH_LOCALITY") unknown += (unknown.empty() ? "" : ", ") + name;
  }
  if (!unknown.empty()) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("unknown external query parameters: {}", unknown))
        .hint("Parameters belong into the connection: ALTER EXTERNAL CONNECTION.");
  }
  if (!parsed.parameters.empty()) external.locality = text.substr(text.find('?') + 1);
  return external;
}

std::string resolve_external_uri(const ExternalUri& uri, std::string_view connection_uri) {
  const std::string_view base = connection_uri.substr(0, connection_uri.find('#'));
  const std::size_t question = base.find('?');
  std::string resolved(base.substr(0, question));
  if (!uri.path.empty()) {
    if (!resolved.ends_with('/')) resolved += '/';
    resolved += uri.path;
  }
  std::string query(question == base.npos ? "" : base.substr(question + 1));
  if (!uri.locality.empty()) query += (query.empty() ? "" : "&") + uri.locality;
  return query.empty() ? resolved : resolved + '?' + query;
}

}  // namespace holdfast::storage
