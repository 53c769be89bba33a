#include "base/clock.h"

#include <fmt/format.h>

#include <cctype>

namespace holdfast {

namespace {

class SystemClock final : public Clock {
 public:
  Time now() const override {
    return std::chrono::time_point_cast<std::chrono::microseconds>(
        std::chrono::system_clock::now());
  }
};

struct Parts {
  std::chrono::year_month_day date;
  std::chrono::hh_mm_ss<std::chrono::microseconds> time_of_day;
};

Parts split(Time time) {
  auto day = std::chrono::floor<std::chrono::days>(time);
  return {std::chrono::year_month_day(day),
          std::chrono::hh_mm_ss<std::chrono::microseconds>(time - day)};
}

/// Takes exactly `digits` digits from the front of `text`.
std::optional<int> take_number(std::string_view& text, std::size_t digits) {
  if (text.size() < digits) return std::nullopt;
  int value = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    if (std::isdigit(static_cast<unsigned char>(text[i])) == 0) return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool take_char(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text[0]) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

const Clock& Clock::system() {
  static const SystemClock clock;
  return clock;
}

std::string format_timestamptz(Time time) {
  Parts parts = split(time);
  std::string text =
      fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", static_cast<int>(parts.date.year()),
                  static_cast<unsigned>(parts.date.month()),
                  static_cast<unsigned>(parts.date.day()), parts.time_of_day.hours().count(),
                  parts.time_of_day.minutes().count(), parts.time_of_day.seconds().count());
  if (auto micros = parts.time_of_day.subseconds().count(); micros != 0) {
    text += fmt::format(".{:06}", micros);
    while (text.back() == '0') text.pop_back();
  }
  return text + "+00";
}

std::string format_rfc3339(Time time) {
  Parts parts = split(time);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                     static_cast<int>(parts.date.year()), static_cast<unsigned>(parts.date.month()),
                     static_cast<unsigned>(parts.date.day()), parts.time_of_day.hours().count(),
                     parts.time_of_day.minutes().count(), parts.time_of_day.seconds().count(),
                     parts.time_of_day.subseconds().count() / 1000);
}

std::optional<Time> parse_timestamp(std::string_view text) {
  auto year = take_number(text, 4);
  if (!year || !take_char(text, "-")) return std::nullopt;
  auto month = take_number(text, 2);
  if (!month || !take_char(text, "-")) return std::nullopt;
  auto day = take_number(text, 2);
  if (!day) return std::nullopt;
  std::chrono::year_month_day date{std::chrono::year(*year),
                                   std::chrono::month(static_cast<unsigned>(*month)),
                                   std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  Time time = std::chrono::sys_days(date);
  if (text.empty()) return time;

  if (!take_char(text, " T")) return std::nullopt;
  auto hour = take_number(text, 2);
  if (!hour || *hour > 23 || !take_char(text, ":")) return std::nullopt;
  auto minute = take_number(text, 2);
  if (!minute || *minute > 59) return std::nullopt;
  time += std::chrono::hours(*hour) + std::chrono::minutes(*minute);
  if (take_char(text, ":")) {
    auto second = take_number(text, 2);
    if (!second || *second > 59) return std::nullopt;
    time += std::chrono::seconds(*second);
    if (take_char(text, ".")) {
      int scale = 100000;
      bool any = false;
      while (!text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) != 0) {
        time += std::chrono::microseconds((text[0] - '0') * scale);
        scale /= 10;
        text.remove_prefix(1);
        any = true;
      }
      if (!any) return std::nullopt;
    }
  }
  if (text.empty() || text == "Z" || text == "z") return time;

  bool west = text[0] == '-';
  if (!take_char(text, "+-")) return std::nullopt;
  auto zone_hours = take_number(text, 2);
  if (!zone_hours || *zone_hours > 15) return std::nullopt;
  int zone_minutes = *zone_hours * 60;
  if (!text.empty()) {
    take_char(text, ":");
    auto minutes = take_number(text, 2);
    if (!minutes || *minutes > 59 || !text.empty()) return std::nullopt;
    zone_minutes += *minutes;
  }
  return west ? time + std::chrono::minutes(zone_minutes)
              : time - std::chrono::minutes(zone_minutes);
}

}  // namespace holdfast
