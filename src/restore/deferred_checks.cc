#include "restore/deferred_checks.h"
#include "restore/catalog_text.h"

#include <fmt/core.h>

namespace holdfast::restore {
namespace {

using postgres::Connection;
using postgres::quote_literal;

/// What a constraint belongs to, the same on both sides.
constexpr std::string_view kOf =
    "COALESCE(NULLIF(k.conrelid, 0)::pg_catalog.regclass::text, "
    "k.contypid::pg_catalog.regtype::text)";

}  // namespace

DeferredChecks::DeferredChecks(const ObjectRestoreRun& run, Connection& workshop) : run_(run) {
  const auto found =
      workshop.query(fmt::format("SELECT {}, k.conname FROM pg_catalog.pg_constraint k "
                                 "WHERE k.contype = 'c' AND k.oid >= 16384 AND NOT k.convalidated",
                                 kOf),
                     run.stop());
  for (std::size_t row = 0; row < found.rows(); ++row) {
    not_valid_.push_back({.of = found.text(row, 0), .name = found.text(row, 1)});
  }
  workshop.simple_query(
      "UPDATE pg_catalog.pg_constraint SET convalidated = false "
      "WHERE contype = 'c' AND oid >= 16384 AND convalidated",
      run.stop());
}

void DeferredChecks::settle(Connection& target, const std::vector<std::string>& schemas) const {
  std::string except;
  for (const auto& constraint : not_valid_) {
    except += fmt::format("{}({}, {})", except.empty() ? "" : ", ", quote_literal(constraint.of),
                          quote_literal(constraint.name));
  }
  if (!except.empty()) except = fmt::format(" AND ({}, k.conname::text) NOT IN ({})", kOf, except);
  // Only the catalog's word: ALTER TABLE … VALIDATE CONSTRAINT would run them.
  target.simple_query(
      fmt::format("UPDATE pg_catalog.pg_constraint k SET convalidated = true "
                  "FROM pg_catalog.pg_namespace n WHERE n.oid = k.connamespace AND {} "
                  "AND k.contype = 'c' AND k.oid >= 16384 AND NOT k.convalidated{}{}",
                  schema_filter(schemas), run_.live_major >= 18 ? " AND k.conenforced" : "",
                  except),
      run_.stop());
}

}  // namespace holdfast::restore
