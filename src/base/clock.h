#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace holdfast {

/// A moment, in microseconds since 1970-01-01 00:00 UTC (PostgreSQL's resolution).
using Time = std::chrono::sys_time<std::chrono::microseconds>;

/// As records of ours hold a time.
constexpr Time time_from_us(std::int64_t microseconds) {
  return Time(std::chrono::microseconds(microseconds));
}

/// The daemon's clock; tests pass their own.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Time now() const = 0;
  static const Clock& system();
};

/// "2026-11-20 22:30:00.123456+00", as PostgreSQL prints a timestamptz in UTC with trailing zeros
/// of the fraction removed.
std::string format_timestamptz(Time time);
/// "2026-11-20T22:30:00.123Z", for logs.
std::string format_rfc3339(Time time);
/// Reads what the two above print, and the same without zone (taken as UTC). Absent when it is none
/// of these.
std::optional<Time> parse_timestamp(std::string_view text);

}  // namespace holdfast
