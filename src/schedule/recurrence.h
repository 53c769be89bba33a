#pragma once

#include <bitset>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "schedule/time_zone.h"

namespace holdfast::schedule {

/// When a schedule runs: cron's five fields (minute, hour, day of the month, month, day of the
/// week), or @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually.
///
/// A field is *, a number, a range a-b, any of these with a step /n, or a list of these. Months and
/// days of the week have names (jan, sun); 0 and 7 are Sunday. When neither day field is *, a day
/// that meets one of them is enough.
///
/// In a time zone with daylight saving, a recurrence whose hour is * goes by elapsed time. Others
/// run once for each local time that they name: at the first of two when the clock is set back, and
/// at the moment of the change when the local time is skipped. Source: cron(8) of Debian.
class Recurrence {
 public:
  /// `zone` is a name such as "Europe/Berlin"; empty is UTC. Throws kInvalidParameterValue for what
  /// is no recurrence, or never occurs, and for an unknown zone.
  static Recurrence parse(std::string_view text, std::string_view zone = {});

  /// The first moment after `after`.
  Time next(Time after) const;
  /// How far the next two moments after `now` are apart.
  std::chrono::microseconds period(Time now) const;

 private:
  struct Fields {
    std::bitset<60> minutes;
    std::bitset<24> hours;
    std::bitset<32> days;  // 1 to 31
    std::bitset<13> months;
    std::bitset<7> weekdays;
    bool any_day = false;
    bool any_weekday = false;
  };

  Recurrence(const Fields& fields, std::optional<TimeZone> zone)
      : fields_(fields), zone_(std::move(zone)) {}

  static std::optional<Fields> read_fields(std::string_view text);
  bool on_day(std::chrono::sys_days day) const;
  std::optional<Time> first_on_day(std::chrono::sys_days day, Time after) const;
  std::optional<Time> find_next(Time after) const;

  Fields fields_;
  std::optional<TimeZone> zone_;  // absent: UTC
};

}  // namespace holdfast::schedule
