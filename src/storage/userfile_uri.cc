#include "storage/userfile_uri.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "storage/percent.h"
#include "storage/uri_parameters.h"

namespace holdfast::storage {

namespace {

constexpr std::string_view kScheme = "userfile://";

/// PostgreSQL cuts longer names off, and two that differ behind the cut would be one.
constexpr std::size_t kLongestName = 63;
constexpr std::size_t kLongestPrefix = kLongestName - std::string_view("_upload_payload").size();

Error invalid_userfile(std::string_view uri, std::string detail) {
  return Error(sqlstate::kInvalidParameterValue, fmt::format("invalid userfile URI \"{}\"", uri))
      .detail(std::move(detail))
      .hint("It looks like userfile://database.schema.prefix/path, or userfile:///path.");
}

bool is_plain_identifier(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
  return !name.empty() && letter(name.front()) &&
         std::ranges::all_of(name, [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

std::string prefix_of(std::string_view user) {
  if (is_plain_identifier(user)) return fmt::format("userfiles_{}", user);
  return fmt::format("userfilesx_{}", to_hex(as_bytes(user)));
}

std::vector<std::string> split_at(std::string_view text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == at) {
      parts.emplace_back();
    } else {
      parts.back().push_back(c);
    }
  }
  return parts;
}

}  // namespace

std::string UserfilePlace::uri() const {
  return fmt::format("{}{}.{}.{}/{}", kScheme, percent_encode(database), percent_encode(schema),
                     percent_encode(prefix), percent_encode_path(path));
}

bool is_userfile(std::string_view uri) {
  return uri.size() >= kScheme.size() &&
         std::equal(kScheme.begin(), kScheme.end(), uri.begin(), [](char own, char given) {
           return own == (given >= 'A' && given <= 'Z' ? given + ('a' - 'A') : given);
         });
}

std::string clean_userfile_path(std::string_view path) {
  std::vector<std::string> kept;
  for (std::string& part : split_at(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      kept.push_back(std::move(part));
    } else if (!kept.empty()) {
      kept.pop_back();
    }
  }
  return fmt::format("{}", fmt::join(kept, "/"));
}

UserfilePlace parse_userfile_uri(std::string_view text, std::string_view user) {
  const StorageUri uri = parse_uri(text);
  const std::string shown = redact_uri(text);
  UriParameters(uri, "userfile").finish();
  UserfilePlace place{.database = std::string(kUserfileDatabase),
                      .schema = "public",
                      .prefix = {},
                      .path = normalize_path(uri.path, shown, "the userfile tables")};
  if (!uri.host.empty()) {
    const auto names = split_at(uri.host, '.');
    if (names.size() != 3 || std::ranges::any_of(names, &std::string::empty)) {
      throw invalid_userfile(shown,
                             "Its host must name a database, a schema and a prefix of tables.");
    }
    place.database = names[0];
    place.schema = names[1];
    place.prefix = names[2];
  } else if (user.empty()) {
    throw invalid_userfile(shown,
                           "Its host is empty, and nobody is there whose tables could be meant.");
  } else {
    place.prefix = prefix_of(user);
  }
  if (std::max(place.database.size(), place.schema.size()) > kLongestName ||
      place.prefix.size() > kLongestPrefix) {
    throw invalid_userfile(
        shown, fmt::format("A name is too long: the prefix has at most {} bytes.", kLongestPrefix));
  }
  return place;
}

std::string own_userfile_uri(std::string_view uri, std::string_view user) {
  if (!is_userfile(uri)) return std::string(uri);
  return parse_userfile_uri(uri, user).uri();
}

}  // namespace holdfast::storage
