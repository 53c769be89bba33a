#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace holdfast::postgres {

/// The content of a small file; absent when there is no such file. Throws Error when it cannot be
/// read or is longer than `limit` bytes.
std::optional<std::string> read_small_file(const std::filesystem::path& path,
                                           std::uint64_t limit = 1U << 20);

}  // namespace holdfast::postgres
