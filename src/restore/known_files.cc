#include "restore/known_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"

namespace holdfast::restore {

namespace {

/// TOAST under the name of its table. The large objects, whose catalog a backup of tables leaves
/// out, and the TOAST of catalogs are not looked at: nothing reads them.
constexpr std::string_view kUnknown =
    "SELECT CASE WHEN c.relkind = 'i' AND t.oid IS NULL THEN 'index' WHEN c.relkind = 'S' "
    "  THEN 'sequence' ELSE 'table' END, n.nspname, COALESCE(t.relname, c.relname) "
    "FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid "
    "LEFT JOIN pg_catalog.pg_class h ON h.oid = i.indrelid "
    "LEFT JOIN pg_catalog.pg_class t ON t.reltoastrelid = COALESCE(i.indrelid, c.oid) "
    "JOIN pg_catalog.pg_namespace n ON n.oid = COALESCE(t.relnamespace, c.relnamespace) "
    "WHERE NOT c.relisshared AND pg_catalog.pg_relation_filenode(c.oid) IS NOT NULL "
    "AND NOT pg_catalog.pg_relation_filenode(c.oid) = ANY ($1::pg_catalog.text::pg_catalog.oid[]) "
    "AND ((c.oid >= 16384 AND ({})) OR (c.oid < 16384 AND c.oid NOT IN (2613, 2683) "
    " AND (c.relkind = 'r' OR (c.relkind = 'i' AND h.relkind = 'r')))) "
    "ORDER BY c.oid DESC LIMIT 1";

}  // namespace

void require_known_files(postgres::Connection& workshop,
                         const collection::proto::ScopeDatabase& scope, const std::string& wanted,
                         const Between& between, const Stop& stop) {
  if (scope.tables().empty() || between.wal_layer.empty()) return;
  const auto unknown =
      workshop.query(fmt::format(kUnknown, wanted),
                     {fmt::format("{{{}{}{}}}", fmt::join(scope.files(), ","),
                                  scope.files().empty() || scope.blank_files().empty() ? "" : ",",
                                  fmt::join(scope.blank_files(), ","))},
                     stop);
  if (unknown.rows() == 0) return;
  throw unknown_file(fmt::format("{} \"{}.{}.{}\"", unknown.text(0, 0), scope.name(),
                                 unknown.text(0, 1), unknown.text(0, 2)),
                     between);
}

bool lacks_file_of_catalog(const Error& error, const collection::proto::ScopeDatabase& scope,
                           const Between& between) {
  return !scope.tables().empty() && !between.wal_layer.empty() &&
         error.state() == sqlstate::kUndefinedFile &&
         error.message().find("could not open file") != std::string::npos;
}

Error unknown_file(std::string_view relation, const Between& between) {
  return Error(sqlstate::kInvalidParameterValue,
               fmt::format("invalid RESTORE timestamp: {} had a file then that the backups do not "
                           "hold",
                           relation))
      .detail(fmt::format(
          "The moment lies between \"{}\" and \"{}\", and the file was made and replaced between "
          "them, or was being made while the first of them was taken: TRUNCATE, VACUUM FULL, "
          "REINDEX, CLUSTER and some forms of ALTER TABLE rewrite.",
          between.base, between.wal_layer))
      .hint(
          "Choose a moment before the first of these, or after the last; incremental backups at "
          "shorter intervals leave fewer of them between two.");
}

}  // namespace holdfast::restore
