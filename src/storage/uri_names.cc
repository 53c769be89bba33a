#include "storage/uri_names.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace holdfast::storage {

namespace {

bool follows(std::string_view name, const NameRule& rule) {
  if (name.size() < rule.shortest || name.size() > rule.longest) return false;
  if (name.front() == '.' || name.back() == '.' || name.find("..") != name.npos) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           rule.extra.find(c) != rule.extra.npos;
  });
}

std::string describe(std::string_view characters) {
  std::string text = "a to z, 0 to 9";
  if (characters.find('A') != characters.npos) text += ", A to Z";
  for (const char c : characters) {
    if (c < 'A' || c > 'Z') text += fmt::format(", \"{}\"", c);
  }
  return text;
}

}  // namespace

void check_name(std::string_view name, const NameRule& rule) {
  if (follows(name, rule)) return;
  // The value is not repeated: what stands there may be anything, a misplaced secret too.
  throw Error(sqlstate::kInvalidParameterValue, fmt::format("{} is not a valid name", rule.what))
      .detail(fmt::format("It has {} to {} characters of these: {}.", rule.shortest, rule.longest,
                          describe(rule.extra)));
}

Error invalid_parameter(std::string message) {
  return Error(sqlstate::kInvalidParameterValue, std::move(message));
}

std::string lower_case(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return result;
}

}  // namespace holdfast::storage
