#include "schedule/time_zone.h"

#include <date/tz.h>
#include <fmt/format.h>

#include <stdexcept>

#include "base/error.h"

namespace holdfast::schedule {

namespace {

using std::chrono::floor;
using std::chrono::seconds;

date::local_seconds as_local(Time time) {
  return date::local_seconds(floor<seconds>(time).time_since_epoch());
}

}  // namespace

TimeZone TimeZone::find(std::string_view name) {
  try {
    return TimeZone(date::locate_zone(std::string(name)));
  } catch (const std::runtime_error&) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("time zone \"{}\" not recognized", name))
        .hint("Give a name such as 'Europe/Berlin'; the package tzdata has them.");
  }
}

Time TimeZone::local(Time moment) const {
  return moment + zone_->get_info(floor<seconds>(moment)).offset;
}

LocalTime TimeZone::resolve(Time local) const {
  const date::local_info info = zone_->get_info(as_local(local));
  switch (info.result) {
    case date::local_info::unique:
      return {.kind = LocalTime::Kind::Once,
              .first = local - info.first.offset,
              .second = local - info.first.offset};
    case date::local_info::nonexistent:
      return {.kind = LocalTime::Kind::Skipped, .first = info.first.end, .second = info.first.end};
    default:
      return {.kind = LocalTime::Kind::Repeated,
              .first = local - info.first.offset,
              .second = local - info.second.offset};
  }
}

}  // namespace holdfast::schedule
