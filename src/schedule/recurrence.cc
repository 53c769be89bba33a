#include "schedule/recurrence.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <vector>

#include "base/assert.h"
#include "base/error.h"

namespace holdfast::schedule {

namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::sys_days;

struct Word {
  std::string_view name;
  std::string_view fields;
};
constexpr Word kWords[] = {{"@hourly", "0 * * * *"},   {"@daily", "0 0 * * *"},
                           {"@midnight", "0 0 * * *"}, {"@weekly", "0 0 * * 0"},
                           {"@monthly", "0 0 1 * *"},  {"@yearly", "0 0 1 1 *"},
                           {"@annually", "0 0 1 1 *"}};

constexpr std::string_view kMonths[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                        "jul", "aug", "sep", "oct", "nov", "dec"};
constexpr std::string_view kWeekdays[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

// 29 February is at most eight years away (2096 to 2104).
constexpr days kFurthest{366 * 9};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

std::vector<std::string_view> split(std::string_view text, char delimiter) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(delimiter);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

/// The values that a field may have, and the names of the first ones.
struct Range {
  int low;
  int high;
  std::span<const std::string_view> names = {};
};

std::optional<int> read_value(std::string_view text, const Range& range) {
  const auto name = std::ranges::find(range.names, text);
  if (name != range.names.end()) return range.low + static_cast<int>(name - range.names.begin());
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (text.starts_with('-') || value < range.low || value > range.high) return std::nullopt;
  return value;
}

/// One element of a list, "*", "5", "1-5" or any with "/2". False when it is none.
template <std::size_t n>
bool read_element(std::string_view text, const Range& range, std::bitset<n>& values) {
  const std::size_t slash = text.find('/');
  const std::string_view span = text.substr(0, slash);
  int step = 1;
  if (slash != text.npos) {
    const auto given = read_value(text.substr(slash + 1), {.low = 1, .high = range.high});
    if (!given) return false;
    step = *given;
  }
  std::optional<int> first = range.low;
  std::optional<int> last = range.high;
  if (span != "*") {
    const std::size_t dash = span.find('-');
    first = read_value(span.substr(0, dash), range);
    if (dash != span.npos) {
      last = read_value(span.substr(dash + 1), range);
    } else if (slash == text.npos) {
      last = first;
    }
  }
  if (!first || !last || *first > *last) return false;
  for (int value = *first; value <= *last; value += step) {
    // 7 is Sunday too.
    values.set(static_cast<std::size_t>(value) % (n == 7 ? 7 : n));
  }
  return true;
}

template <std::size_t n>
bool read_field(std::string_view text, const Range& range, std::bitset<n>& values) {
  return std::ranges::all_of(split(text, ','), [&](std::string_view element) {
    return read_element(element, range, values);
  });
}

}  // namespace

std::optional<Recurrence::Fields> Recurrence::read_fields(std::string_view text) {
  std::vector<std::string_view> parts = split(text, ' ');
  std::erase(parts, "");
  if (parts.size() != 5) return std::nullopt;
  Fields fields;
  // A weekday may be 7, and the names begin with that of 0.
  if (!read_field(parts[0], {.low = 0, .high = 59}, fields.minutes) ||
      !read_field(parts[1], {.low = 0, .high = 23}, fields.hours) ||
      !read_field(parts[2], {.low = 1, .high = 31}, fields.days) ||
      !read_field(parts[3], {.low = 1, .high = 12, .names = kMonths}, fields.months) ||
      !read_field(parts[4],
                  {.low = 0, .high = parts[4].starts_with('*') ? 6 : 7, .names = kWeekdays},
                  fields.weekdays)) {
    return std::nullopt;
  }
  fields.any_day = parts[2] == "*";
  fields.any_weekday = parts[4] == "*";
  return fields;
}

Recurrence Recurrence::parse(std::string_view text, std::string_view zone) {
  std::string fields = lower(text);
  std::ranges::replace(fields, '\t', ' ');
  const auto* word = std::ranges::find(kWords, std::string_view(fields), &Word::name);
  if (word != std::end(kWords)) fields = word->fields;
  const auto invalid = [&] {
    return Error(sqlstate::kInvalidParameterValue,
                 fmt::format("error parsing schedule expression: \"{}\"; it must be a valid cron "
                             "expression",
                             text));
  };
  const std::optional<Fields> read = read_fields(fields);
  if (!read) {
    throw invalid().hint(
        "Give minute, hour, day of the month, month and day of the week, as in '30 2 * * 1-5', or "
        "@hourly, @daily, @weekly, @monthly or @yearly.");
  }
  std::optional<TimeZone> time_zone;
  if (!zone.empty()) time_zone = TimeZone::find(zone);
  Recurrence recurrence(*read, std::move(time_zone));
  if (!recurrence.find_next(sys_days(std::chrono::January / 1 / 2001))) {
    throw invalid().detail("No day of the calendar meets it.");
  }
  return recurrence;
}

bool Recurrence::on_day(sys_days day) const {
  const std::chrono::year_month_day date(day);
  if (!fields_.months.test(static_cast<unsigned>(date.month()))) return false;
  const bool day_meets = fields_.days.test(static_cast<unsigned>(date.day()));
  const bool weekday_meets = fields_.weekdays.test(std::chrono::weekday(day).c_encoding());
  if (fields_.any_day || fields_.any_weekday) return day_meets && weekday_meets;
  return day_meets || weekday_meets;
}

/// The first moment after `after` whose local time, as named by the fields, is on `day`.
std::optional<Time> Recurrence::first_on_day(sys_days day, Time after) const {
  const bool by_elapsed_time = fields_.hours.all();
  std::optional<Time> best;
  const auto consider = [&](Time moment) {
    if (moment > after && (!best || moment < *best)) best = moment;
  };
  for (int hour = 0; hour < 24; ++hour) {
    if (!fields_.hours.test(static_cast<std::size_t>(hour))) continue;
    for (int minute = 0; minute < 60; ++minute) {
      if (!fields_.minutes.test(static_cast<std::size_t>(minute))) continue;
      const Time local = day + hours(hour) + minutes(minute);
      if (!zone_) {
        if (local > after) return local;
        continue;
      }
      const LocalTime meant = zone_->resolve(local);
      if (meant.kind == LocalTime::Kind::Skipped && by_elapsed_time) continue;
      consider(meant.first);
      if (meant.kind == LocalTime::Kind::Repeated && by_elapsed_time) consider(meant.second);
    }
  }
  return best;
}

std::optional<Time> Recurrence::find_next(Time after) const {
  const Time local = zone_ ? zone_->local(after) : after;
  // A day earlier: a clock that is set back over midnight repeats the end of the day before.
  sys_days day = std::chrono::floor<days>(local) - days(zone_ ? 1 : 0);
  for (const sys_days end = day + kFurthest; day < end; day += days(1)) {
    if (!on_day(day)) continue;
    if (const std::optional<Time> moment = first_on_day(day, after)) return moment;
  }
  return std::nullopt;
}

Time Recurrence::next(Time after) const {
  const std::optional<Time> moment = find_next(after);
  HF_ASSERT(moment.has_value());  // parse() has seen that it occurs
  return *moment;
}

std::chrono::microseconds Recurrence::period(Time now) const {
  const Time first = next(now);
  return next(first) - first;
}

}  // namespace holdfast::schedule
