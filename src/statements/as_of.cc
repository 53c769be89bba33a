#include "statements/as_of.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "postgres/lsn.h"
#include "statements/option_checks.h"

namespace holdfast::statements {

namespace {

Error invalid(const sql::Expression& expression) {
  return Error(sqlstate::kInvalidParameterValue,
               fmt::format("invalid value for AS OF SYSTEM TIME: {}", expression.source))
      .hint(
          "Give a timestamp, nanoseconds since 1970, or a negative interval such as '-10s' or "
          "INTERVAL '-1h'; BACKUP and RESTORE also take LSN '0/15D68C50' and RESTORE POINT 'name', "
          "RESTORE the name of a milestone.");
}

/// "1577836800000000000" or "1577836800000000000.0000000001", whose fraction orders events of one
/// nanosecond.
std::optional<Time> parse_nanoseconds(std::string_view text) {
  std::int64_t nanoseconds = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), nanoseconds);
  if (failure != std::errc() || nanoseconds < 0) return std::nullopt;
  std::string_view rest = text.substr(static_cast<std::size_t>(end - text.data()));
  if (rest.starts_with('.')) rest.remove_prefix(1);
  if (rest.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  return time_from_us(nanoseconds / 1000);
}

/// "-4h", "-1h30m", "-10.5s", "-1 day": what is before the statement.
std::optional<std::chrono::microseconds> parse_negative_interval(std::string_view text) {
  struct Unit {
    std::string_view name;
    double seconds;
  };
  static constexpr std::array<Unit, 19> kUnits{{{"us", 1e-6},
                                                {"ms", 1e-3},
                                                {"s", 1},
                                                {"sec", 1},
                                                {"secs", 1},
                                                {"second", 1},
                                                {"seconds", 1},
                                                {"m", 60},
                                                {"min", 60},
                                                {"mins", 60},
                                                {"minute", 60},
                                                {"minutes", 60},
                                                {"h", 3600},
                                                {"hour", 3600},
                                                {"hours", 3600},
                                                {"d", 86400},
                                                {"day", 86400},
                                                {"days", 86400},
                                                {"week", 604800}}};
  if (!text.starts_with('-')) return std::nullopt;
  text.remove_prefix(1);
  double seconds = 0;
  bool any = false;
  while (!text.empty()) {
    if (text.front() == ' ') {
      text.remove_prefix(1);
      continue;
    }
    double number = 0;
    const auto [end, failure] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (failure != std::errc() || number < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    while (text.starts_with(' ')) text.remove_prefix(1);
    const std::size_t letters =
        std::min(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), text.size());
    const std::string_view name = text.substr(0, letters);
    text.remove_prefix(letters);
    bool known = false;
    for (const Unit& unit : kUnits) {
      if (unit.name != name) continue;
      seconds += number * unit.seconds;
      known = true;
    }
    if (!known) return std::nullopt;
    any = true;
  }
  // A thousand years: beyond that the arithmetic of times ends.
  if (!any || seconds > 3.2e10) return std::nullopt;
  return std::chrono::microseconds(static_cast<std::int64_t>(seconds * 1e6));
}

}  // namespace

Time as_of_time(const sql::Expression& expression, Time now) {
  using Kind = sql::Expression::Kind;
  switch (expression.kind) {
    case Kind::String:
      if (const auto time = parse_timestamp(expression.value)) return *time;
      [[fallthrough]];
    case Kind::Integer:
    case Kind::Decimal:
    case Kind::Interval:
      if (expression.kind != Kind::Interval) {
        if (const auto time = parse_nanoseconds(expression.value)) return *time;
      }
      if (const auto before = parse_negative_interval(expression.value)) return now - *before;
      throw invalid(expression);
    default:
      refuse_missing("AS OF SYSTEM TIME with this expression", "the evaluation of expressions");
  }
  throw invalid(expression);
}

collection::Moment find_moment(const sql::Expression& expression,
                               const collection::MomentFinder& finder, Time now) {
  if (expression.kind == sql::Expression::Kind::Lsn) {
    const auto lsn = postgres::parse_lsn(expression.value);
    if (!lsn) throw invalid(expression);
    return finder.at_lsn(*lsn);
  }
  if (expression.kind == sql::Expression::Kind::RestorePoint) {
    return finder.at_restore_point(expression.value);
  }
  return finder.at_time(as_of_time(expression, now));
}

}  // namespace holdfast::statements
