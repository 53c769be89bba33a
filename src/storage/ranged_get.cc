#include "storage/ranged_get.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "base/error.h"
#include "storage/keys.h"

namespace holdfast::storage {

namespace {

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

struct ContentRange {
  std::uint64_t first = 0;
  std::optional<std::uint64_t> total;
};

/// "bytes 3-6/10"; the total may be "*". Source: RFC 9110, section 14.4.
std::optional<ContentRange> parse_content_range(std::string_view text) {
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  const std::size_t dash = text.find('-');
  const std::size_t slash = text.find('/');
  if (dash == text.npos || slash == text.npos || slash < dash) return std::nullopt;
  const auto first = parse_number(text.substr(0, dash));
  if (!first) return std::nullopt;
  return ContentRange{.first = *first, .total = parse_number(text.substr(slash + 1))};
}

}  // namespace

std::string range_header(std::uint64_t offset, std::uint64_t length) {
  return fmt::format("bytes={}-{}", offset, offset + length - 1);
}

void check_range(const net::HttpResponse& response, const ObjectKey& key, std::uint64_t offset,
                 std::uint64_t length) {
  const auto other = [&](std::string_view what) {
    return Error(sqlstate::kIoError, fmt::format("could not get object \"{}\": {}", key, what))
        .retry(Retry::Safe);
  };
  if (response.status == 206) {
    const auto range = parse_content_range(response.header("content-range"));
    if (!range) throw other("the server does not say which part it sends");
    if (range->first != offset) throw other("the server sent another part of it");
    if (range->total && *range->total < offset + length) throw too_short(key, offset, length);
  } else if (offset != 0) {
    // RFC 9110 lets a server ignore Range; what came is the beginning.
    throw Error(
        sqlstate::kFeatureNotSupported,
        fmt::format("could not get object \"{}\": the server does not send parts of it", key));
  }
  if (response.body_bytes == length) return;
  const auto promised = parse_number(response.header("content-length"));
  if (promised && *promised == response.body_bytes && response.status == 200) {
    throw too_short(key, offset, length);
  }
  throw other(fmt::format("{} bytes came instead of {}", response.body_bytes, length));
}

std::uint64_t content_length(const net::HttpResponse& response, const ObjectKey& key) {
  const auto length = parse_number(response.header("content-length"));
  if (length) return *length;
  throw Error(
      sqlstate::kIoError,
      fmt::format("could not look up object \"{}\": the server does not tell its length", key));
}

}  // namespace holdfast::storage
