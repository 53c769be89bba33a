#include "restore/index_marks.h"

#include <fmt/core.h>

namespace holdfast::restore {

IndexMarks::IndexMarks(const ObjectRestoreRun& run, postgres::Connection& workshop,
                       const std::vector<std::string>& schemas)
    : run_(run) {
  std::string list;
  for (const auto& schema : schemas) {
    list += (list.empty() ? "" : ", ") + postgres::quote_literal(schema);
  }
  const auto marked = workshop.query(
      fmt::format("SELECT i.indexrelid, pg_catalog.format('ALTER TABLE %I.%I ', n.nspname, "
                  " c.relname), pg_catalog.quote_ident(x.relname), i.indisclustered, "
                  " i.indisreplident FROM pg_catalog.pg_index i "
                  "JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid "
                  "JOIN pg_catalog.pg_class c ON c.oid = i.indrelid "
                  "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                  "WHERE i.indexrelid >= 16384 AND (i.indisclustered OR i.indisreplident) AND {}",
                  list.empty() ? "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
                               : fmt::format("n.nspname IN ({})", list)),
      run.stop());
  std::string oids;
  for (std::size_t row = 0; row < marked.rows(); ++row) {
    const std::string table = marked.text(row, 1);
    const std::string index = marked.text(row, 2);
    if (marked.boolean(row, 3)) statements_.push_back(table + "CLUSTER ON " + index);
    if (marked.boolean(row, 4))
      statements_.push_back(table + "REPLICA IDENTITY USING INDEX " + index);
    oids += (oids.empty() ? "" : ", ") + marked.text(row, 0);
  }
  if (oids.empty()) return;
  workshop.simple_query(fmt::format("UPDATE pg_catalog.pg_index SET indisclustered = false, "
                                    "indisreplident = false WHERE indexrelid IN ({})",
                                    oids),
                        run.stop());
}

void IndexMarks::settle(postgres::Connection& target) const {
  for (const auto& statement : statements_) target.simple_query(statement, run_.stop());
}

}  // namespace holdfast::restore
