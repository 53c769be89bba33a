#include "cli/client_certificate.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace holdfast::cli {

namespace {

/// A name becomes a part of a file's name.
bool is_principal(std::string_view name) {
  return !name.empty() && name.find('/') == std::string_view::npos;
}

}  // namespace

CertPrincipalMap parse_cert_principal_map(std::string_view text) {
  CertPrincipalMap map;
  while (!text.empty()) {
    const std::string_view entry = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), entry.size() + 1));
    // A name in a certificate may have colons, one of a user has none here.
    const std::size_t colon = entry.rfind(':');
    if (colon == std::string_view::npos || !is_principal(entry.substr(0, colon)) ||
        !is_principal(entry.substr(colon + 1))) {
      // CockroachDB's words.
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("invalid <cert-principal>:<db-principal> mapping: \"{}\"", entry))
          .hint("As in --cert-principal-map=backup-host:postgres,other:alice.");
    }
    map.emplace_back(entry.substr(0, colon), entry.substr(colon + 1));
  }
  return map;
}

std::string client_certificate(const std::filesystem::path& directory, const std::string& user,
                               const CertPrincipalMap& map) {
  const auto there = [&](const std::string& name) {
    return std::filesystem::exists(directory / (name + ".crt"));
  };
  if (std::string own = "client." + user; there(own)) return own;
  for (auto entry = map.rbegin(); entry != map.rend(); ++entry) {
    if (entry->second != user) continue;
    if (std::string mapped = "client." + entry->first; there(mapped)) return mapped;
  }
  return {};
}

}  // namespace holdfast::cli
