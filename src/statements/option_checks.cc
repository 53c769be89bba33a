#include "statements/option_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace holdfast::statements {

namespace {

/// Options that the grammar knows and no engine serves yet, with what is missing.
struct Unsupported {
  std::string_view option;
  std::string_view missing;
};
constexpr Unsupported kUnsupported[] = {
    {"execution locality", "execution locality"},
    {"updates_cluster_monitoring_metrics", "the metric of KMS failures"},
    {"include_all_virtual_clusters", "virtual clusters, which PostgreSQL does not have"},
    {"virtual_cluster_name", "virtual clusters, which PostgreSQL does not have"},
    {"virtual_cluster", "virtual clusters, which PostgreSQL does not have"},
    {"strict storage locality", "locality-aware backup"},
    {"skip_localities_check", "multi-region objects"},
    {"remove_regions", "multi-region objects"},
    {"into_db", "restoring tables"},
    {"into_schema", "restoring tables"},
    {"new_table_name", "restoring tables"},
    {"where", "restoring tables"},
    {"new_db_name", "restoring databases"},
    {"skip_missing_foreign_keys", "restoring tables"},
    {"skip_missing_sequences", "restoring tables"},
    {"skip_missing_sequence_owners", "restoring tables"},
    {"skip_missing_views", "restoring tables"},
    {"skip_missing_udfs", "restoring tables"},
    {"grants", "restoring databases and tables"},
    {"schema_only", "restoring without rows"},
    {"verify_backup_table_data", "restoring without rows"},
    {"unsafe_restore_incompatible_version", "restoring into another major version"},
    {"experimental deferred copy", "online restore"},
    {"experimental copy", "online restore"},
    {"index", "the backup index"},
    {"revision start time", "a column for the start of the revision history"},
};

}  // namespace

void refuse_missing(std::string_view what, std::string_view missing) {
  throw Error(sqlstate::kFeatureNotSupported, fmt::format("{} is not supported yet", what))
      .detail(fmt::format("What is missing is {}.", missing));
}

void refuse_unsupported_options(const sql::Options& options, std::string_view statement,
                                std::span<const std::string_view> served) {
  for (const sql::Option& option : options.list) {
    if (std::ranges::find(served, option.name) != served.end()) continue;
    if (!option.enabled) continue;
    if (option.values.size() == 1 && option.values[0].value == "false" &&
        sql::find_option(option.name, ~0U)->type == sql::OptionType::BooleanValue) {
      continue;
    }
    auto found = std::ranges::find(kUnsupported, option.name, &Unsupported::option);
    if (found == std::end(kUnsupported)) continue;
    refuse_missing(fmt::format("{} option {}", statement, option.name), found->missing);
  }
}

std::string single_uri(const sql::Uris& uris, std::string_view statement) {
  if (uris.size() != 1) {
    refuse_missing(fmt::format("{} with several URIs", statement), "locality-aware backup");
  }
  return uris[0].value;
}

std::uint64_t parse_rate(std::string_view text) {
  auto invalid = [&] {
    return Error(sqlstate::kInvalidParameterValue,
                 fmt::format("invalid value for option max_rate: \"{}\"", text))
        .hint("Give bytes per second, with kB, MB or GB if you like, as in '100MB'.");
  };
  double number = 0;
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc()) throw invalid();
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' ')) unit.remove_prefix(1);

  static constexpr struct {
    std::string_view name;
    double bytes;
  } kUnits[] = {
      {"", 1}, {"B", 1}, {"kB", 1024}, {"MB", 1024.0 * 1024}, {"GB", 1024.0 * 1024 * 1024}};
  for (const auto& known : kUnits) {
    if (known.name != unit) continue;
    double rate = number * known.bytes;
    // The upper bound is beyond any device, and keeps the arithmetic of the throttle exact.
    if (!(rate >= 1) || rate > 1e15) throw invalid();
    return static_cast<std::uint64_t>(rate);
  }
  throw invalid();
}

std::uint32_t workers_option(const sql::Options& options, std::uint32_t most) {
  std::optional<std::int64_t> workers = options.integer("workers");
  if (!workers) return 0;
  if (*workers < 1 || *workers > most) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("invalid value for option workers: {}", *workers))
        .hint(fmt::format("Give a number from 1 to {}.", most));
  }
  return static_cast<std::uint32_t>(*workers);
}

bool is_standby(sql::SessionContext& session) {
  const auto answer = session.query("SELECT pg_catalog.pg_is_in_recovery()");
  return !answer.rows.empty() && answer.rows[0].at(0) == "t";
}

void require_primary(sql::SessionContext& session, std::string_view statement) {
  if (!is_standby(session)) return;
  // Worded as PostgreSQL words it for its own statements.
  throw Error(sqlstate::kReadOnlySqlTransaction,
              fmt::format("cannot execute {} during recovery", statement))
      .detail("This PostgreSQL is a standby: what it holds is made by its primary.")
      .hint(
          "Restore on the primary, into a new directory with option data_directory, or promote "
          "this standby with pg_promote() first.");
}

}  // namespace holdfast::statements
