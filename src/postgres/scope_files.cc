#include "postgres/scope_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>

#include "postgres/relation_path.h"

namespace holdfast::postgres {
namespace {

/// What all databases share, but for relations.
constexpr std::array<std::string_view, 5> kSharedPrefixes = {"global/", "pg_xact/", "pg_multixact/",
                                                             "pg_commit_ts/", "pg_subtrans/"};

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// The database whose directory the path is, or lies in: base/5/… or pg_tblspc/16400/PG_…/5/….
std::optional<std::uint32_t> database_of(std::string_view path) {
  std::size_t skip = 0;
  if (path.starts_with("base/")) {
    skip = 1;
  } else if (path.starts_with("pg_tblspc/")) {
    skip = 3;
  } else {
    return std::nullopt;
  }
  for (; skip > 0; --skip) {
    const std::size_t slash = path.find('/');
    if (slash == std::string_view::npos) return std::nullopt;
    path.remove_prefix(slash + 1);
  }
  return number(path.substr(0, path.find('/')));
}

}  // namespace

bool file_in_scope(std::string_view path, const WalScope& scope) {
  if (const auto relation = parse_relation_path(path)) return scope.wants(relation->relation);
  if (const auto database = database_of(path)) return scope.wants_database(*database);
  return path == "PG_VERSION" || std::ranges::any_of(kSharedPrefixes, [&](std::string_view prefix) {
           return path.starts_with(prefix);
         });
}

bool directory_in_scope(std::string_view path, const WalScope& scope) {
  const auto database = database_of(path);
  return !database || scope.wants_database(*database);
}

}  // namespace holdfast::postgres
