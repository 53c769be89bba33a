#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace holdfast::storage {

/// A member of an object; empty when it is not there or no text.
inline std::string json_text(const nlohmann::json& object, std::string_view name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace holdfast::storage
