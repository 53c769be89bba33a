#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace holdfast::io {

/// Bytes of memory that can be had without swapping, as the kernel estimates; absent where it does
/// not say.
std::optional<std::uint64_t> available_memory();

/// The same, of the text of /proc/meminfo.
std::optional<std::uint64_t> parse_available_memory(std::string_view meminfo);

}  // namespace holdfast::io
