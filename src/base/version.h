#pragma once

#include <string_view>

namespace holdfast {

/// Of this build; the same as in CMakeLists.txt, CHANGELOG.md and every manifest it writes.
inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace holdfast
