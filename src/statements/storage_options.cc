#include "statements/storage_options.h"

#include <fmt/format.h>

#include "base/error.h"
#include "collection/object_lock.h"
#include "sql/lexer.h"
#include "sql/statements.h"
#include "statements/as_of.h"
#include "statements/older_than.h"

namespace holdfast::statements {

namespace {

sql::Expression literal(const std::string& text) {
  return {.kind = sql::Expression::Kind::String,
          .source = sql::quote_literal(text),
          .value = text,
          .parameter = 0};
}

std::uint64_t read_retention(const std::string& text, sql::SessionContext& session) {
  const Time now = Clock::system().now();
  // A moment is none: what is put a month later would be kept for a month less.
  if (!parse_timestamp(text)) {
    const auto age = now - older_than_time(literal(text), session, now);
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(age).count();
    if (seconds > 0 && text.find('-') == std::string::npos) {
      return static_cast<std::uint64_t>(seconds);
    }
  }
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("invalid value for option retain_for: \"{}\"", text))
      .hint("Give how long objects are kept, as in '30 days'.");
}

}  // namespace

storage::StoreAccess LockOption::access() const {
  return collection::locking(mode, retain_for_seconds);
}

LockOption lock_option(const sql::Options& options, sql::SessionContext& session) {
  const auto mode = options.text("object_lock");
  const auto retain_for = options.text("retain_for");
  if (!mode && !retain_for) return {};
  if (!mode || !retain_for) {
    throw Error(sqlstate::kInvalidParameterValue,
                "options object_lock and retain_for must be given together")
        .hint("As in: WITH object_lock = 'compliance', retain_for = '30 days'.");
  }
  LockOption option{.mode = *mode, .retain_for_seconds = read_retention(*retain_for, session)};
  if (!option.access().lock) {
    throw Error(sqlstate::kInvalidParameterValue, "invalid value for option object_lock: \"\"")
        .hint("Valid values are 'governance' and 'compliance'.");
  }
  return option;
}

std::optional<Time> versions_option(const sql::Options& options) {
  const auto text = options.text("restore_from_versions_at");
  if (!text) return std::nullopt;
  try {
    return as_of_time(literal(*text), Clock::system().now());
  } catch (const Error&) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("invalid value for option restore_from_versions_at: \"{}\"", *text))
        .hint("Give the moment that the storage is read at: a timestamp, or '-2h'.");
  }
}

}  // namespace holdfast::statements
