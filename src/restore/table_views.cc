#include "restore/table_views.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "restore/missing_functions.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;
using postgres::quote_literal;

/// What the rules of these relations depend on.
constexpr std::string_view kParts =
    "FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class v ON v.oid = w.ev_class "
    "JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass "
    " AND d.objid = w.oid ";

/// What a view lacks in the live server.
struct Lack {
  std::string oid;  ///< of the view
  std::string view;
  std::string what;  ///< qualified
  std::string missing;
};

std::optional<Lack> first_lack_of_relation(const ObjectRestoreRun& run, Connection& workshop,
                                           Connection& live, const TableSet& tables) {
  const auto reads = workshop.query(
      fmt::format("SELECT DISTINCT v.oid, v.relname, pg_catalog.format('%I.%I', n.nspname, "
                  "r.relname), r.oid {0}"
                  "JOIN pg_catalog.pg_class r ON r.oid = d.refobjid "
                  " AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
                  "JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace "
                  "WHERE v.oid IN ({1}) AND v.relkind IN ('v', 'm') AND r.oid <> v.oid "
                  "AND r.oid NOT IN ({1}) ORDER BY 2, 3",
                  kParts, tables.oids),
      run.stop());
  for (std::size_t row = 0; row < reads.rows(); ++row) {
    const std::string relation = reads.text(row, 2);
    if (live.query("SELECT pg_catalog.to_regclass($1) IS NOT NULL", {relation}, run.stop())
            .boolean(0, 0)) {
      continue;
    }
    return Lack{.oid = reads.text(row, 0),
                .view = reads.text(row, 1),
                .what = relation,
                .missing = reads.text(row, 3)};
  }
  return std::nullopt;
}

std::optional<Lack> first_lack_of_function(const ObjectRestoreRun& run, Connection& workshop,
                                           Connection& live, const TableSet& tables) {
  const auto uses = workshop.query(
      fmt::format("SELECT DISTINCT v.oid, v.relname, p.oid::pg_catalog.regprocedure::text, p.oid "
                  "{}JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid "
                  " AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass "
                  "WHERE v.oid IN ({}) AND v.relkind IN ('v', 'm') AND p.oid >= 16384 "
                  "ORDER BY 2, 3",
                  kParts, tables.oids),
      run.stop());
  for (std::size_t row = 0; row < uses.rows(); ++row) {
    if (has_function(live, uses.text(row, 2), run.stop())) continue;
    return Lack{.oid = uses.text(row, 0),
                .view = uses.text(row, 1),
                .what = uses.text(row, 2),
                .missing = uses.text(row, 3)};
  }
  return std::nullopt;
}

void leave_out(const ObjectRestoreRun& run, const Lack& lack, TableSet& tables) {
  std::erase_if(tables.objects, [&](const StagedObject& object) { return object.oid == lack.oid; });
  tables.oids.clear();
  for (const auto& object : tables.objects) {
    tables.oids += (tables.oids.empty() ? "" : ", ") + object.oid;
  }
  if (tables.oids.empty()) {
    throw Error(sqlstate::kUndefinedTable,
                fmt::format("nothing is left to restore without view \"{}\"", lack.view))
        .detail(fmt::format("It needs {}, which is not restored and does not exist in database "
                            "\"{}\".",
                            lack.what, run.spec.into_db()));
  }
  run.job.notice(
      fmt::format("view \"{}\" is left out: {} is not restored and does not exist in "
                  "database \"{}\"",
                  lack.view, lack.what, run.spec.into_db()));
}

}  // namespace

void settle_views(const ObjectRestoreRun& run, Connection& workshop, Connection& live,
                  TableSet& tables) {
  const auto& spec = run.spec;
  // One that is left out may be what another one reads.
  while (true) {
    if (const auto lack = first_lack_of_relation(run, workshop, live, tables)) {
      if (!spec.skip_missing_views()) {
        throw Error(sqlstate::kUndefinedTable,
                    fmt::format("cannot restore view \"{}\" without restoring referenced table (or "
                                "\"skip_missing_views\" option)",
                                lack->view))
            .detail(fmt::format("It reads {}, which is not restored and does not exist in database "
                                "\"{}\".",
                                lack->what, spec.into_db()));
      }
      leave_out(run, *lack, tables);
      continue;
    }
    const auto lack = first_lack_of_function(run, workshop, live, tables);
    if (!lack) return;
    if (!spec.skip_missing_views() && !spec.skip_missing_udfs()) {
      throw Error(sqlstate::kUndefinedObject,
                  // The reference says "table" of views, too.
                  fmt::format("cannot restore table \"{}\" without referenced function {} (or "
                              "\"skip_missing_udfs\" option)",
                              lack->view, lack->missing))
          .detail(fmt::format("View \"{}\" uses function {}, which does not exist in database "
                              "\"{}\"; the option leaves out the view.",
                              lack->view, lack->what, spec.into_db()))
          .hint("Create it first; RESTORE DATABASE brings functions along.");
    }
    leave_out(run, *lack, tables);
  }
}

std::vector<FilledView> list_filled_views(const ObjectRestoreRun& run, Connection& workshop,
                                          const std::vector<std::string>& schemas) {
  std::string list;
  for (const auto& schema : schemas) list += (list.empty() ? "" : ", ") + quote_literal(schema);
  const auto views =
      workshop.query(fmt::format("SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), "
                                 " pg_catalog.quote_ident(c.relname) "
                                 "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                                 "ON n.oid = c.relnamespace "
                                 "WHERE c.relkind = 'm' AND c.relispopulated{} ORDER BY c.oid",
                                 list.empty() ? "" : fmt::format(" AND n.nspname IN ({})", list)),
                     run.stop());
  std::vector<FilledView> found;
  for (std::size_t row = 0; row < views.rows(); ++row) {
    found.push_back({.name = views.text(row, 0), .shown = views.text(row, list.empty() ? 0 : 1)});
  }
  return found;
}

void refresh_views(const ObjectRestoreRun& run, Connection& target, std::vector<FilledView> left) {
  // A view that reads another one can only be filled after it.
  while (!left.empty()) {
    std::vector<FilledView> failed;
    std::optional<Error> failure;
    for (const auto& view : left) {
      try {
        target.simple_query("REFRESH MATERIALIZED VIEW " + view.name, run.stop());
      } catch (const Error& error) {
        // It is filled with the builder's rights, which are none outside of what is restored.
        if (error.state() == sqlstate::kInsufficientPrivilege ||
            error.state() == sqlstate::kUndefinedObject) {
          run.job.notice(fmt::format("materialized view {} is not filled: {}; refresh it later",
                                     view.shown, error.message()));
          continue;
        }
        if (error.state() != sqlstate::kObjectNotInPrerequisiteState) throw;
        failure = error;
        failed.push_back(view);
      }
    }
    if (failure && failed.size() == left.size()) throw Error(*failure);
    left = std::move(failed);
  }
}

}  // namespace holdfast::restore
