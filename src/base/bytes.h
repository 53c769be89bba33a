#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace holdfast {

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;
using MutableByteView = std::span<std::byte>;

inline ByteView as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads a little-endian integer at `offset`, which must lie inside `bytes` whole (asserted by the
/// caller's own length check). holdfast runs on little-endian machines only, like the files it
/// reads.
template <typename T>
requires std::is_trivially_copyable_v<T> T load(ByteView bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <typename T>
requires std::is_trivially_copyable_v<T>
void store(MutableByteView bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

/// Lower-case hexadecimal, two characters a byte.
std::string to_hex(ByteView bytes);
/// Absent when `text` has an odd length or a character that is not hexadecimal.
std::optional<Bytes> from_hex(std::string_view text);

}  // namespace holdfast
