#include "restore/missing_functions.h"

#include <fmt/core.h>

#include "base/error.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;

/// Parts of tables that may use functions, with the statement that leaves each out: NULL where none
/// may. What comes with a parent's part, or is PostgreSQL's own, goes with that.
constexpr std::string_view kFunctionUses =
    "WITH parts(classid, objid, objsubid, relation, what, removal) AS ("
    " SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, NULL::int, i.indrelid, "
    "  pg_catalog.format('index %I', x.relname), "
    "  pg_catalog.format('DROP INDEX IF EXISTS %I.%I', n.nspname, x.relname) "
    "  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid "
    "  JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace "
    "  WHERE i.indrelid IN ({0}) AND NOT x.relispartition AND NOT EXISTS (SELECT FROM "
    "   pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid)"
    " UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, p.partrelid, 0, p.partrelid, "
    "  'the partition key', NULL FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid IN ({0})"
    " UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, a.attrelid, a.attnum, "
    "  a.attrelid, pg_catalog.format('generated column %I', a.attname), "
    "  CASE WHEN a.attgenerated = 's' AND a.attinhcount = 0 "
    "   THEN pg_catalog.format('ALTER TABLE %s ALTER %I DROP EXPRESSION IF EXISTS', "
    "    a.attrelid::pg_catalog.regclass, a.attname) END "
    "  FROM pg_catalog.pg_attribute a WHERE a.attrelid IN ({0}) AND a.attgenerated <> ''"
    " UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, ad.oid, NULL, ad.adrelid, "
    "  pg_catalog.format('%s column %I', CASE a.attgenerated WHEN '' THEN 'the default of' "
    "   ELSE 'generated' END, a.attname), "
    "  CASE WHEN a.attgenerated = '' THEN pg_catalog.format('ALTER TABLE ONLY %s ALTER %I DROP "
    "DEFAULT', ad.adrelid::pg_catalog.regclass, a.attname) "
    "   WHEN a.attgenerated = 's' AND a.attinhcount = 0 "
    "   THEN pg_catalog.format('ALTER TABLE %s ALTER %I DROP EXPRESSION IF EXISTS', "
    "    ad.adrelid::pg_catalog.regclass, a.attname) END "
    "  FROM pg_catalog.pg_attrdef ad JOIN pg_catalog.pg_attribute a ON a.attrelid = ad.adrelid "
    "  AND a.attnum = ad.adnum WHERE ad.adrelid IN ({0})"
    " UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, NULL, k.conrelid, "
    "  pg_catalog.format('constraint %I', k.conname), "
    "  pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', "
    "   k.conrelid::pg_catalog.regclass, k.conname) "
    "  FROM pg_catalog.pg_constraint k WHERE k.conrelid IN ({0}) AND k.coninhcount = 0"
    // An exclusion constraint's own functions are those of its index.
    " UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, k.conindid, NULL, k.conrelid, "
    "  pg_catalog.format('constraint %I', k.conname), "
    "  pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', "
    "   k.conrelid::pg_catalog.regclass, k.conname) "
    "  FROM pg_catalog.pg_constraint k WHERE k.conrelid IN ({0}) AND k.contype IN ('p', 'u', 'x') "
    "  AND k.coninhcount = 0"
    " UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, s.oid, NULL, "
    "  s.stxrelid, pg_catalog.format('statistics object %I', s.stxname), "
    "  pg_catalog.format('DROP STATISTICS %I.%I', n.nspname, s.stxname) "
    "  FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n "
    "  ON n.oid = s.stxnamespace WHERE s.stxrelid IN ({0})"
    " UNION ALL SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, t.oid, NULL, t.tgrelid, "
    "  pg_catalog.format('trigger %I', t.tgname), "
    "  pg_catalog.format('DROP TRIGGER IF EXISTS %I ON %s', t.tgname, "
    "   t.tgrelid::pg_catalog.regclass) "
    "  FROM pg_catalog.pg_trigger t WHERE t.tgrelid IN ({0}) AND t.tgparentid = 0"
    " UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, oid, NULL, polrelid, "
    "  pg_catalog.format('policy %I', polname), NULL FROM pg_catalog.pg_policy "
    "  WHERE polrelid IN ({0})"
    " UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, oid, NULL, ev_class, "
    "  pg_catalog.format('rule %I', rulename), NULL FROM pg_catalog.pg_rewrite "
    "  WHERE ev_class IN ({0})) "
    "SELECT DISTINCT c.relname, p.oid::pg_catalog.regprocedure::text, p.oid, parts.what, "
    " parts.removal "
    "FROM parts JOIN pg_catalog.pg_class c ON c.oid = parts.relation "
    "JOIN pg_catalog.pg_depend d ON d.classid = parts.classid AND d.objid = parts.objid "
    " AND (parts.objsubid IS NULL OR d.objsubid = parts.objsubid) "
    "JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid "
    "WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid >= 16384 "
    "ORDER BY 1, 4, 2";

}  // namespace

bool has_function(Connection& live, const std::string& identity, const Stop& stop) {
  return live.query("SELECT pg_catalog.to_regprocedure($1) IS NOT NULL", {identity}, stop)
      .boolean(0, 0);
}

void settle_functions(const ObjectRestoreRun& run, Connection& workshop, Connection& live,
                      const TableSet& tables) {
  const auto uses =
      workshop.query(fmt::format(fmt::runtime(kFunctionUses), tables.oids), run.stop());
  for (std::size_t row = 0; row < uses.rows(); ++row) {
    const std::string table = uses.text(row, 0);
    const std::string function = uses.text(row, 1);
    const std::string part = uses.text(row, 3);
    if (has_function(live, function, run.stop())) continue;
    if (!run.spec.skip_missing_udfs() || !uses.value(row, 4)) {
      throw Error(sqlstate::kUndefinedObject,
                  fmt::format("cannot restore table \"{}\" without referenced function {}{}", table,
                              uses.text(row, 2),
                              uses.value(row, 4) ? " (or \"skip_missing_udfs\" option)" : ""))
          .detail(fmt::format("Function {}, which {} uses, does not exist in database \"{}\".",
                              function, part, run.spec.into_db()))
          .hint("Create it first; RESTORE DATABASE brings functions along.");
    }
    workshop.simple_query(uses.text(row, 4), run.stop());
    run.job.notice(
        fmt::format("{} of table \"{}\" is left out: function {} does not exist in "
                    "database \"{}\"",
                    part, table, function, run.spec.into_db()));
  }
}

}  // namespace holdfast::restore
