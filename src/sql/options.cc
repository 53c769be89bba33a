#include "sql/options.h"

#include <fmt/format.h>

#include <charconv>

#include "base/error.h"

namespace holdfast::sql {

const Option* Options::find(OptionName name) const {
  for (const Option& option : list) {
    if (option.name == name.view()) return &option;
  }
  return nullptr;
}

bool Options::flag(OptionName name) const {
  const Option* option = find(name);
  return option != nullptr && option->enabled;
}

std::optional<std::string> Options::text(OptionName name) const {
  const Option* option = find(name);
  if (option == nullptr || option->values.empty()) return std::nullopt;
  return option->values.front().value;
}

std::optional<std::int64_t> Options::integer(OptionName name) const {
  std::optional<std::string> digits = text(name);
  if (!digits) return std::nullopt;
  std::int64_t value = 0;
  const char* end = digits->data() + digits->size();
  std::from_chars_result result = std::from_chars(digits->data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || value < 0) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("invalid value for option \"{}\": \"{}\"", name.view(), *digits))
        .detail("It must be an integer that is not negative.");
  }
  return value;
}

std::vector<std::string> Options::uris(OptionName name) const {
  std::vector<std::string> uris;
  if (const Option* option = find(name)) {
    for (const Text& text : option->values) uris.push_back(text.value);
  }
  return uris;
}

}  // namespace holdfast::sql
