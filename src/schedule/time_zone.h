#pragma once

#include <string_view>

#include "base/clock.h"

namespace date {
class time_zone;
}

namespace holdfast::schedule {

/// Which moments a local time is. `first` and `second` differ only for a repeated one; for a
/// skipped one both are the moment at which the clock was set forward.
struct LocalTime {
  enum class Kind { Once, Skipped, Repeated };
  Kind kind = Kind::Once;
  Time first{};
  Time second{};
};

/// A zone of the system's time zone database.
class TimeZone {
 public:
  /// Throws kInvalidParameterValue for a name that the system does not know.
  static TimeZone find(std::string_view name);

  /// What clocks show at `moment`, as if it were UTC.
  Time local(Time moment) const;
  /// The moments at which clocks show `local`.
  LocalTime resolve(Time local) const;

 private:
  explicit TimeZone(const date::time_zone* zone) : zone_(zone) {}

  const date::time_zone* zone_;  // of the library's database, which is never unloaded
};

}  // namespace holdfast::schedule
