#include "postgres/lsn.h"

#include <fmt/core.h>

#include <charconv>

#include "base/error.h"

namespace holdfast::postgres {
namespace {

template <typename T>
std::optional<T> parse_hex(std::string_view text) {
  T value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (text.empty() || result.ec != std::errc() || result.ptr != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

// File names have upper-case digits only and always all eight of them.
std::optional<std::uint32_t> parse_name_part(std::string_view text) {
  if (text.find_first_not_of("0123456789ABCDEF") != std::string_view::npos) return std::nullopt;
  return parse_hex<std::uint32_t>(text);
}

constexpr std::string_view kHistorySuffix = ".history";

std::string_view trim_spaces(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string_view take_word(std::string_view& line) {
  line = trim_spaces(line);
  const auto end = std::min(line.find_first_of(" \t"), line.size());
  const auto word = line.substr(0, end);
  line.remove_prefix(end);
  return word;
}

}  // namespace

std::string to_string(Lsn lsn) {
  return fmt::format("{:X}/{:X}", lsn.value >> 32, lsn.value & 0xFFFFFFFFU);
}

std::optional<Lsn> parse_lsn(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos || slash > 8 || text.size() - slash - 1 > 8) {
    return std::nullopt;
  }
  const auto high = parse_hex<std::uint32_t>(text.substr(0, slash));
  const auto low = parse_hex<std::uint32_t>(text.substr(slash + 1));
  if (!high || !low) return std::nullopt;
  return Lsn{static_cast<std::uint64_t>(*high) << 32 | *low};
}

std::string wal_segment_name(TimelineId timeline, std::uint64_t segment,
                             std::uint64_t wal_segment_bytes) {
  const std::uint64_t per_high = (1ULL << 32) / wal_segment_bytes;
  return fmt::format("{:08X}{:08X}{:08X}", timeline, segment / per_high, segment % per_high);
}

std::optional<WalSegment> parse_wal_segment_name(std::string_view name,
                                                 std::uint64_t wal_segment_bytes) {
  if (name.size() != 24) return std::nullopt;
  const auto timeline = parse_name_part(name.substr(0, 8));
  const auto high = parse_name_part(name.substr(8, 8));
  const auto low = parse_name_part(name.substr(16, 8));
  if (!timeline || !high || !low || *timeline == 0) return std::nullopt;
  const std::uint64_t per_high = (1ULL << 32) / wal_segment_bytes;
  if (*low >= per_high) return std::nullopt;
  return WalSegment{*timeline, *high * per_high + *low};
}

std::string timeline_history_name(TimelineId timeline) {
  return fmt::format("{:08X}{}", timeline, kHistorySuffix);
}

std::optional<TimelineId> parse_timeline_history_name(std::string_view name) {
  if (name.size() != 8 + kHistorySuffix.size() || !name.ends_with(kHistorySuffix)) {
    return std::nullopt;
  }
  return parse_name_part(name.substr(0, 8));
}

// Source: PostgreSQL src/backend/access/transam/timeline.c (readTimeLineHistory): one line is
// timeline, switch point, reason; "#" starts a comment; timelines increase.
std::vector<TimelineSwitch> parse_timeline_history(std::string_view text,
                                                   std::string_view file_name) {
  std::vector<TimelineSwitch> entries;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = trim_spaces(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') continue;

    TimelineId timeline = 0;
    const auto number = take_word(line);
    const auto parsed = std::from_chars(number.data(), number.data() + number.size(), timeline);
    const auto switch_point = parse_lsn(take_word(line));
    const bool number_read =
        parsed.ec == std::errc() && parsed.ptr == number.data() + number.size();
    if (!number_read || !switch_point || timeline == 0 ||
        (!entries.empty() && timeline <= entries.back().timeline)) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("syntax error in timeline history file \"{}\"", file_name))
          .detail("Expected a growing timeline number and a write-ahead log switch point.");
    }
    entries.push_back({timeline, *switch_point, std::string(trim_spaces(line))});
  }
  return entries;
}

}  // namespace holdfast::postgres
