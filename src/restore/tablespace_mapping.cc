#include "restore/tablespace_mapping.h"

#include <fmt/core.h>

#include <string>

#include "base/error.h"

namespace holdfast::restore {
namespace {

Error malformed(std::string_view text, std::string detail) {
  return Error(sqlstate::kInvalidParameterValue,
               fmt::format("invalid value for option tablespace_mapping: \"{}\"", text))
      .detail(std::move(detail))
      .hint("Write 'oid=/new/path,/old/path=/new/path'.");
}

}  // namespace

std::vector<proto::TablespaceMapping> parse_tablespace_mapping(std::string_view text) {
  std::vector<proto::TablespaceMapping> mappings;
  std::string parts[2];
  int part = 0;
  const auto finish = [&] {
    if (part != 1) throw malformed(text, "An entry has no \"=\".");
    const bool oid = !parts[0].empty() && parts[0].size() <= 10 &&
                     parts[0].find_first_not_of("0123456789") == std::string::npos;
    if (!oid && !parts[0].starts_with('/')) {
      throw malformed(text, "Before \"=\" stands an OID or an absolute path.");
    }
    if (!parts[1].starts_with('/') || parts[1].find_first_of("\n\r") != std::string::npos) {
      throw malformed(text, "After \"=\" stands an absolute path.");
    }
    for (std::string& path : parts) {
      while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    }
    for (const auto& other : mappings) {
      if (other.from() == parts[0]) {
        throw malformed(text, fmt::format("\"{}\" is mapped twice.", parts[0]));
      }
    }
    auto& mapping = mappings.emplace_back();
    mapping.set_from(std::move(parts[0]));
    mapping.set_to(std::move(parts[1]));
    parts[0].clear();
    parts[1].clear();
    part = 0;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      if (++i == text.size()) throw malformed(text, "It ends in a backslash.");
      parts[part] += text[i];
    } else if (text[i] == '=' && part == 0) {
      part = 1;
    } else if (text[i] == ',') {
      finish();
    } else {
      parts[part] += text[i];
    }
  }
  finish();
  return mappings;
}

bool maps(const proto::TablespaceMapping& entry, std::uint32_t oid, std::string_view location) {
  return entry.from() == location || entry.from() == std::to_string(oid);
}

}  // namespace holdfast::restore
