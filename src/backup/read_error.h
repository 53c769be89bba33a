#pragma once

#include <string_view>

namespace holdfast::backup {

/// Throws the Error for a file or directory of the source that could not be read, with what to do
/// about it. `action` such as "open file".
[[noreturn]] void throw_unreadable(std::string_view action, std::string_view path,
                                   int error_number);

}  // namespace holdfast::backup
