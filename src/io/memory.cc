#include "io/memory.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

namespace holdfast::io {

std::optional<std::uint64_t> available_memory() {
  std::ifstream file("/proc/meminfo");
  return parse_available_memory(std::string(std::istreambuf_iterator<char>(file), {}));
}

std::optional<std::uint64_t> parse_available_memory(std::string_view meminfo) {
  constexpr std::string_view kName = "MemAvailable:";
  const std::size_t at = meminfo.find(kName);
  if (at == std::string_view::npos) return std::nullopt;
  meminfo.remove_prefix(at + kName.size());
  const std::size_t digits = meminfo.find_first_not_of(' ');
  if (digits == std::string_view::npos) return std::nullopt;
  std::uint64_t kilobytes = 0;
  const auto [end, failure] =
      std::from_chars(meminfo.data() + digits, meminfo.data() + meminfo.size(), kilobytes);
  if (failure != std::errc() || kilobytes > UINT64_MAX / 1024) return std::nullopt;
  return kilobytes * 1024;
}

}  // namespace holdfast::io
