#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace holdfast::cli {

/// Which user the name in a certificate stands for, as CockroachDB's --cert-principal-map says it.
using CertPrincipalMap = std::vector<std::pair<std::string, std::string>>;

/// Reads "cert-principal:db-principal,…"; empty for an empty text. Throws kInvalidParameterValue.
CertPrincipalMap parse_cert_principal_map(std::string_view text);

/// The base name of the certificate in `directory` with which `user` connects: "client.<user>", or
/// that of a name which the map has for the user (of several the last one) when only that is there.
/// Empty when there is none. The server maps the names by itself: pg_ident.conf.
std::string client_certificate(const std::filesystem::path& directory, const std::string& user,
                               const CertPrincipalMap& map);

}  // namespace holdfast::cli
