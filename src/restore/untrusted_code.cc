#include "restore/untrusted_code.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.h"
#include "restore/catalog_text.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;
using postgres::quote_literal;

/// What PostgreSQL evaluates by itself, with the rights of the table's owner, as ANALYZE does.
constexpr std::string_view kOwnersParts =
    "SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, 0, i.indrelid, 'an index' "
    " FROM pg_catalog.pg_index i"
    " UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, s.oid, 0, s.stxrelid, "
    " 'a statistics object' FROM pg_catalog.pg_statistic_ext s";

/// Completes "WITH parts(classid, objid, objsubid, relation, what) AS (…)": their functions, and
/// those behind their operators, that users made.
constexpr std::string_view kFunctionsOfParts =
    "SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relname, parts.what, "
    "p.oid::pg_catalog.regprocedure::text, r.rolname, r.rolsuper, "
    " pg_catalog.pg_get_userbyid(c.relowner) FROM parts JOIN pg_catalog.pg_class c ON c.oid = "
    "parts.relation "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_catalog.pg_depend d ON d.classid = parts.classid AND d.objid = parts.objid "
    " AND d.objsubid = parts.objsubid "
    "LEFT JOIN pg_catalog.pg_operator o ON o.oid = d.refobjid "
    " AND d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass "
    "JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode OR (p.oid = d.refobjid "
    " AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass) "
    "JOIN pg_catalog.pg_roles r ON r.oid = p.proowner "
    "WHERE p.oid >= 16384 AND {} ORDER BY 1, 3, 4";

/// Types that the columns of relations in staging schemas are made of, and that are elsewhere.
std::string types_elsewhere(int major, const std::vector<std::string>& schemas) {
  return fmt::format(
      "WITH RECURSIVE used(oid) AS ("
      " SELECT a.atttypid FROM pg_catalog.pg_attribute a "
      "  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid "
      "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
      "  WHERE n.nspname IN ({0}) AND a.attnum > 0 AND NOT a.attisdropped "
      " UNION SELECT part.oid FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid "
      " CROSS JOIN LATERAL (SELECT t.typelem AS oid UNION ALL SELECT t.typbasetype "
      "  UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid "
      "{1}"
      "  UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE t.typtype = 'c' "
      "   AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) part "
      " WHERE part.oid <> 0), "
      "elsewhere AS (SELECT t.* FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid "
      " JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace "
      " WHERE t.oid >= 16384 AND t.typtype IN ('d', 'c') AND n.nspname NOT IN ({0})) ",
      schema_list(schemas),
      major >= 14 ? "  UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r "
                    "WHERE r.rngmultitypid = t.oid "
                  : "");
}

void require_superusers_types(const ObjectRestoreRun& run, Connection& live,
                              const std::vector<std::string>& schemas) {
  const auto found =
      live.query(types_elsewhere(live.server_major(), schemas) +
                     "SELECT t.oid::pg_catalog.regtype::text, r.rolname, '' FROM elsewhere t "
                     "JOIN pg_catalog.pg_roles r ON r.oid = t.typowner WHERE NOT r.rolsuper "
                     "UNION ALL SELECT t.oid::pg_catalog.regtype::text, r.rolname, "
                     "p.oid::pg_catalog.regprocedure::text FROM elsewhere t "
                     "JOIN pg_catalog.pg_constraint k ON k.contypid = t.oid "
                     "JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::"
                     "pg_catalog.regclass AND d.objid = k.oid "
                     "LEFT JOIN pg_catalog.pg_operator o ON o.oid = d.refobjid "
                     " AND d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass "
                     "JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode OR (p.oid = d.refobjid "
                     " AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass) "
                     "JOIN pg_catalog.pg_roles r ON r.oid = p.proowner "
                     "WHERE p.oid >= 16384 AND NOT r.rolsuper LIMIT 1",
                 run.stop());
  if (found.rows() == 0) return;
  const std::string function = found.text(0, 2);
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("cannot restore with type {}, which exists in database \"{}\": it {} "
                          "role \"{}\", who is no superuser",
                          found.text(0, 0), run.spec.into_db(),
                          function.empty() ? "belongs to" : "runs function " + function + " of",
                          found.text(0, 1)))
      .detail("What it checks would run with the rights of holdfast while the rows come in.")
      .hint("Restore into a database without that type (into_db): then it comes along.");
}

struct OthersCode {
  std::string table;
  std::string owner;
  std::string what;
  std::string function;
  std::string author;
};

[[noreturn]] void refuse_code(const OthersCode& code) {
  throw Error(
      sqlstate::kInsufficientPrivilege,
      fmt::format("cannot restore \"{}\" for role \"{}\": {} of it runs function {} of role "
                  "\"{}\"",
                  code.table, code.owner, code.what, code.function, code.author))
      .detail("PostgreSQL runs it with the rights of the table's owner.")
      .hint("Restore with owners (option grants).");
}

}  // namespace

void require_harmless(const ObjectRestoreRun& run, postgres::Connection& workshop,
                      const std::string& relations) {
  if (run.spec.administrator()) return;
  const auto owners =
      workshop.query(fmt::format("SELECT c.relname, pg_catalog.pg_get_userbyid(c.relowner) "
                                 "FROM pg_catalog.pg_class c WHERE c.oid IN ({})",
                                 relations),
                     run.stop());
  for (std::size_t row = 0; row < owners.rows(); ++row) {
    if (std::ranges::find(run.spec.roles(), owners.text(row, 1)) == run.spec.roles().end()) {
      throw Error(sqlstate::kInsufficientPrivilege,
                  fmt::format("must be owner of relation {}", owners.text(row, 0)))
          .detail(fmt::format("In the backup it belongs to role \"{}\".", owners.text(row, 1)));
    }
  }
  const auto code = workshop.query(
      fmt::format(
          "SELECT c.relname, 'a check constraint' FROM pg_catalog.pg_constraint k "
          "JOIN pg_catalog.pg_class c ON c.oid = k.conrelid WHERE k.contype = 'c' "
          "AND c.oid IN ({0}) "
          "UNION ALL SELECT c.relname, 'a generated column' FROM pg_catalog.pg_attribute a "
          "JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE a.attgenerated <> '' "
          "AND c.oid IN ({0}) "
          "UNION ALL SELECT c.relname, 'an expression in its partition key' "
          "FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_class c ON c.oid = "
          "p.partrelid "
          "WHERE p.partexprs IS NOT NULL AND c.oid IN ({0}) "
          // Any domain of a user's in the database: what a column's type is made of has many forms.
          "UNION ALL SELECT t.typname, 'a check constraint of a domain' "
          "FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type t ON t.oid = k.contypid "
          "WHERE k.contypid >= 16384 LIMIT 1",
          relations),
      run.stop());
  if (code.rows() == 0) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("only administrators can restore \"{}\", which has {}", code.text(0, 0),
                          code.text(0, 1)))
      .detail("It would be evaluated with the rights of holdfast while the rows come in.");
}

void require_trusted_code(const ObjectRestoreRun& run, Connection& defined, Connection& live,
                          const std::vector<std::string>& schemas) {
  // Of generated columns, the column or its expression depends on functions, by version.
  const auto code = defined.query(
      "WITH parts(classid, objid, objsubid, relation, what) AS ("
      " SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, ad.oid, 0, ad.adrelid, "
      "  'a generated column' FROM pg_catalog.pg_attrdef ad JOIN pg_catalog.pg_attribute a "
      "  ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum WHERE a.attgenerated <> '' "
      " UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, a.attrelid, a.attnum, "
      "  a.attrelid, 'a generated column' FROM pg_catalog.pg_attribute a "
      "  WHERE a.attgenerated <> '' "
      " UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, p.partrelid, 0, "
      "  p.partrelid, 'a partition key' FROM pg_catalog.pg_partitioned_table p "
      "  WHERE p.partexprs IS NOT NULL "
      " UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, 0, k.conrelid, "
      "  'a foreign key' FROM pg_catalog.pg_constraint k WHERE k.contype = 'f') " +
          fmt::format(fmt::runtime(kFunctionsOfParts), schema_filter(schemas)),
      run.stop());
  const auto require_superusers = [&](const OthersCode& part, bool superuser) {
    const auto now = live.query("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1",
                                {part.author}, run.stop());
    if (superuser && (now.rows() == 0 || now.boolean(0, 0))) return;
    throw Error(sqlstate::kInsufficientPrivilege,
                fmt::format("cannot restore \"{}\": {} of it runs function {} of role \"{}\", who "
                            "is no superuser",
                            part.table, part.what, part.function, part.author))
        .detail("It would run with the rights of holdfast while the rows come in.")
        .hint(schemas.empty()
                  ? "Restore the whole cluster beside this one (option data_directory) and bring "
                    "the database over with pg_dump as an ordinary user."
                  : "Look at what the function does, then give it to a superuser.");
  };
  for (std::size_t row = 0; row < code.rows(); ++row) {
    require_superusers({.table = code.text(row, 1),
                        .owner = {},
                        .what = code.text(row, 2),
                        .function = code.text(row, 3),
                        .author = code.text(row, 4)},
                       code.boolean(row, 5));
  }
  // Foreign keys compare with such casts. Tables get theirs later, so that any column counts.
  const auto casts = defined.query(
      fmt::format(
          "SELECT c.relname, p.oid::pg_catalog.regprocedure::text, r.rolname, r.rolsuper "
          "FROM pg_catalog.pg_cast x JOIN pg_catalog.pg_proc p ON p.oid = x.castfunc "
          "JOIN pg_catalog.pg_roles r ON r.oid = p.proowner "
          "JOIN pg_catalog.pg_type t ON t.oid = x.castsource OR t.typbasetype = x.castsource "
          "JOIN pg_catalog.pg_attribute a ON a.atttypid = t.oid AND NOT a.attisdropped "
          "JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p') "
          "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
          "WHERE p.oid >= 16384 AND x.castcontext = 'i' AND {} AND ({} OR EXISTS (SELECT FROM "
          " pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conrelid = c.oid "
          " AND a.attnum = ANY (k.conkey))) ORDER BY 1, 2",
          schema_filter(schemas), schemas.empty() ? "false" : "true"),
      run.stop());
  for (std::size_t row = 0; row < casts.rows(); ++row) {
    require_superusers({.table = casts.text(row, 0),
                        .owner = {},
                        .what = "a cast for a foreign key",
                        .function = casts.text(row, 1),
                        .author = casts.text(row, 2)},
                       casts.boolean(row, 3));
  }
  if (!schemas.empty()) require_superusers_types(run, live, schemas);
}

void require_own_code(const ObjectRestoreRun& run, Connection& workshop, Connection& live,
                      const std::vector<std::string>& schemas,
                      const std::map<std::string, std::string>& owners) {
  const auto code = live.query(
      fmt::format("WITH parts(classid, objid, objsubid, relation, what) AS ({}", kOwnersParts) +
          " UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, oid, 0, adrelid, '' "
          "  FROM pg_catalog.pg_attrdef"
          " UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid, 0, conrelid, '' "
          "  FROM pg_catalog.pg_constraint"
          " UNION ALL SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, oid, 0, tgrelid, '' "
          "  FROM pg_catalog.pg_trigger"
          " UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, oid, 0, polrelid, '' "
          "  FROM pg_catalog.pg_policy"
          " UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, oid, 0, ev_class, '' "
          "  FROM pg_catalog.pg_rewrite) " +
          fmt::format(fmt::runtime(kFunctionsOfParts), schema_filter(schemas)),
      run.stop());
  for (std::size_t row = 0; row < code.rows(); ++row) {
    if (code.boolean(row, 5)) continue;
    const std::string function = code.text(row, 3);
    const std::string its_owner = code.text(row, 4);
    const auto found = owners.find(code.text(row, 0));
    const std::string owner = found == owners.end() ? run.spec.user() : found->second;
    if (owner == its_owner) continue;
    if (run.spec.grants()) {
      const auto before = workshop.query(
          "SELECT pg_catalog.pg_get_userbyid(proowner) FROM pg_catalog.pg_proc "
          "WHERE oid = pg_catalog.to_regprocedure($1)",
          {function}, run.stop());
      if (before.rows() != 0 && before.text(0, 0) == its_owner) continue;
    }
    if (code.text(row, 2).empty()) {
      run.job.notice(fmt::format(
          "function {} belongs to \"{}\", and runs with the rights of whoever uses table \"{}\"",
          function, its_owner, code.text(row, 1)));
      continue;
    }
    refuse_code({.table = code.text(row, 1),
                 .owner = owner,
                 .what = code.text(row, 2),
                 .function = function,
                 .author = its_owner});
  }
}

void require_authors_own(const ObjectRestoreRun& run, Connection& workshop, Connection& live) {
  const auto code = workshop.query(
      fmt::format("WITH parts(classid, objid, objsubid, relation, what) AS ({}) ", kOwnersParts) +
          fmt::format(fmt::runtime(kFunctionsOfParts), schema_filter({})),
      run.stop());
  const auto role = [&](const std::string& name) {
    return live.query("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1", {name},
                      run.stop());
  };
  for (std::size_t row = 0; row < code.rows(); ++row) {
    const std::string author = code.text(row, 4);
    const std::string before = code.text(row, 6);
    const auto now = role(author);
    // Somebody who is not there cannot gain anything.
    if (now.rows() == 0 || now.boolean(0, 0)) continue;
    const bool kept = run.spec.grants() && role(before).rows() != 0;
    const std::string& owner = kept ? before : run.spec.user();
    if (owner == before || owner == author) continue;
    refuse_code({.table = code.text(row, 1),
                 .owner = owner,
                 .what = code.text(row, 2),
                 .function = code.text(row, 3),
                 .author = author});
  }
}

}  // namespace holdfast::restore
