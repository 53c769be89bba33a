#include "restore/database_settings.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "postgres/connection.h"

namespace holdfast::restore {
namespace {

/// Settings of single databases and roles that have GUC_LIST_QUOTE, and whether case matters in
/// them. Source: PostgreSQL src/bin/pg_dump/dumputils.c (variable_is_guc_list_quote).
constexpr std::array<std::string_view, 2> kNameLists = {"search_path", "temp_tablespaces"};
constexpr std::array<std::string_view, 2> kFileLists = {"local_preload_libraries",
                                                        "session_preload_libraries"};

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

}  // namespace

std::optional<std::vector<std::string>> split_names(std::string_view value, Fold fold) {
  std::vector<std::string> names;
  std::size_t at = 0;
  const auto skip_spaces = [&] {
    while (at < value.size() && is_space(value[at])) ++at;
  };
  skip_spaces();
  if (at == value.size()) return names;
  while (true) {
    std::string name;
    if (value[at] == '"') {
      for (++at;; ++at) {
        if (at >= value.size()) return std::nullopt;
        if (value[at] == '"') {
          if (at + 1 >= value.size() || value[at + 1] != '"') break;
          ++at;
        }
        name += value[at];
      }
      ++at;
    } else {
      for (; at < value.size() && value[at] != ',' && !is_space(value[at]); ++at) {
        const char c = value[at];
        name += fold == Fold::Yes && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
      }
      if (name.empty()) return std::nullopt;
    }
    names.push_back(std::move(name));
    skip_spaces();
    if (at == value.size()) return names;
    if (value[at] != ',') return std::nullopt;
    ++at;
    skip_spaces();
    if (at == value.size()) return std::nullopt;
  }
}

std::string setting_value(const std::string& name, const std::string& value) {
  const bool names = std::ranges::find(kNameLists, name) != kNameLists.end();
  if (names || std::ranges::find(kFileLists, name) != kFileLists.end()) {
    const auto split = split_names(value, names ? Fold::Yes : Fold::No);
    if (split && !split->empty()) {
      std::string list;
      for (const auto& element : *split) {
        list += (list.empty() ? "" : ", ") + postgres::quote_literal(element);
      }
      return list;
    }
  }
  return postgres::quote_literal(value);
}

}  // namespace holdfast::restore
