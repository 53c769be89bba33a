#include "restore/staging_schemas.h"

#include <fmt/core.h>

#include <string_view>

#include "base/error.h"
#include "restore/catalog_text.h"

namespace holdfast::restore {

using postgres::Connection;
using postgres::quote_identifier;

namespace {

/// The keyword of ALTER for what pg_class.relkind says.
std::string_view alter_keyword(const std::string& kind) {
  if (kind == "S") return "SEQUENCE";
  if (kind == "f") return "FOREIGN TABLE";
  if (kind == "v") return "VIEW";
  if (kind == "m") return "MATERIALIZED VIEW";
  return "TABLE";
}

/// Names of indexes and of the tables' own sequences matter to nobody; where they are taken, they
/// give way.
void rename_what_collides(const ObjectRestoreRun& run, Connection& target, const std::string& oid,
                          const std::string& staging, const std::string& schema,
                          std::vector<std::string>& notices) {
  const auto taken = target.query(
      "SELECT c.relname, c.relkind FROM pg_catalog.pg_class c "
      "WHERE c.relnamespace = $1::pg_catalog.oid AND (c.relkind IN ('i', 'I') OR c.relkind = 'S' "
      " AND EXISTS (SELECT FROM pg_catalog.pg_depend d "
      "  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid "
      "  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
      "  AND d.deptype IN ('a', 'i'))) "
      "AND EXISTS (SELECT FROM pg_catalog.pg_class o JOIN pg_catalog.pg_namespace n "
      " ON n.oid = o.relnamespace WHERE n.nspname = $2 AND o.relname = c.relname) "
      "UNION ALL SELECT s.stxname, 's' FROM pg_catalog.pg_statistic_ext s "
      "WHERE s.stxnamespace = $1::pg_catalog.oid AND EXISTS (SELECT FROM "
      " pg_catalog.pg_statistic_ext o JOIN pg_catalog.pg_namespace n ON n.oid = o.stxnamespace "
      " WHERE n.nspname = $2 AND o.stxname = s.stxname) ORDER BY 1",
      {oid, schema}, run.stop());
  for (std::size_t row = 0; row < taken.rows(); ++row) {
    const std::string name = taken.text(row, 0);
    const std::string kind = taken.text(row, 1);
    // Names end at 63 bytes; the job's number makes this one new.
    const std::string suffix = fmt::format("_{}", run.job.id());
    std::string base = name.substr(0, 63 - suffix.size());
    while (!base.empty() && (static_cast<unsigned char>(base.back()) & 0x80U) != 0 &&
           base.size() < name.size()) {
      base.pop_back();
    }
    const std::string_view keyword = kind == "S"   ? "SEQUENCE"
                                     : kind == "s" ? "STATISTICS"
                                                   : "INDEX";
    target.simple_query(fmt::format("ALTER {} {} RENAME TO {}", keyword, qualified(staging, name),
                                    quote_identifier(base + suffix)),
                        run.stop());
    notices.push_back(fmt::format("\"{}\" exists in schema \"{}\": restored as \"{}\"", name,
                                  schema, base + suffix));
  }
}

}  // namespace

void create_staging_schema(const ObjectRestoreRun& run, Connection& target, const std::string& name,
                           const std::string& destination) {
  auto& schema = *run.checkpoint.add_schemas();
  schema.set_name(name);
  schema.set_destination(destination);
  run.save_checkpoint();
  target.simple_query("BEGIN; CREATE SCHEMA " + quote_identifier(name), run.stop());
  const auto grants = target.query(
      "SELECT DISTINCT n.oid, CASE a.grantee WHEN 0 THEN 'PUBLIC' "
      "ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END "
      "FROM pg_catalog.pg_namespace n LEFT JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a "
      "ON a.grantee <> n.nspowner WHERE n.nspname = $1",
      {name}, run.stop());
  for (std::size_t row = 0; row < grants.rows(); ++row) {
    if (!grants.value(row, 1)) continue;
    target.simple_query(
        fmt::format("REVOKE ALL ON SCHEMA {} FROM {}", quote_identifier(name), grants.text(row, 1)),
        run.stop());
  }
  target.simple_query("COMMIT", run.stop());
  schema.set_oid(static_cast<std::uint32_t>(grants.integer(0, 0)));
  run.save_checkpoint();
}

bool is_own_schema(const ObjectRestoreRun& run, Connection& target,
                   const proto::StagingSchema& schema) {
  return target
             .query(
                 "SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r "
                 "ON r.oid = n.nspowner WHERE n.nspname = $1 "
                 "AND ($2 = '0' OR n.oid = $2::pg_catalog.oid) AND r.rolname = current_user",
                 {schema.name(), std::to_string(schema.oid())}, run.stop())
             .rows() != 0;
}

std::size_t count_built_relations(const ObjectRestoreRun& run, Connection& target,
                                  const std::string& schema) {
  std::string oids = "0";
  for (const auto oid : run.checkpoint.relations()) oids += fmt::format(", {}", oid);
  return target
      .query(fmt::format("SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                         "ON n.oid = c.relnamespace WHERE c.oid IN ({}) "
                         "AND ($1 = '' OR n.nspname = $1)",
                         oids),
             {schema}, run.stop())
      .rows();
}

void require_all_built(const ObjectRestoreRun& run, Connection& target) {
  std::size_t found = 0;
  for (const auto& schema : run.checkpoint.schemas()) {
    if (is_own_schema(run, target, schema))
      found += count_built_relations(run, target, schema.name());
  }
  if (found != 0 && found == static_cast<std::size_t>(run.checkpoint.relations_size())) return;
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("what was being restored in database \"{}\" was dropped or changed "
                          "meanwhile",
                          run.spec.into_db()))
      .detail(fmt::format("Of {} relations in the job's own schemas {} are left.",
                          run.checkpoint.relations_size(), found))
      .hint("Run the statement again.");
}

void move_out_of_staging(const ObjectRestoreRun& run, Connection& target,
                         const proto::StagingSchema& staged, std::vector<std::string>& notices) {
  const std::string oid = std::to_string(staged.oid());
  const std::string& staging = staged.name();
  const std::string& schema = staged.destination();
  const auto execute = [&](const std::string& sql) { return target.simple_query(sql, run.stop()); };
  if (target.query("SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1", {schema}, run.stop())
          .rows() == 0) {
    execute(fmt::format("CREATE SCHEMA {} AUTHORIZATION {}", quote_identifier(schema),
                        quote_identifier(run.spec.user())));
  }
  rename_what_collides(run, target, oid, staging, schema, notices);
  const auto relations = target.query(
      "SELECT c.relname, c.relkind FROM pg_catalog.pg_class c "
      "WHERE c.relnamespace = $1::pg_catalog.oid AND c.relkind IN ('r', 'p', 'f', 'S', 'v', 'm') "
      // Sequences go with the tables that own them.
      "AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_catalog.pg_depend d "
      " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid "
      " AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
      " AND d.deptype IN ('a', 'i'))) ORDER BY 1",
      {oid}, run.stop());
  for (std::size_t row = 0; row < relations.rows(); ++row) {
    const std::string name = relations.text(row, 0);
    const std::string to = name_in_target(run.spec, name);
    const std::string_view keyword = alter_keyword(relations.text(row, 1));
    if (to != name) {
      execute(fmt::format("ALTER {} {} RENAME TO {}", keyword, qualified(staging, name),
                          quote_identifier(to)));
    }
    execute(fmt::format("ALTER {} {} SET SCHEMA {}", keyword, qualified(staging, to),
                        quote_identifier(schema)));
  }
  const auto others = target.query(
      "SELECT t.typname, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END "
      "FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid "
      "WHERE t.typnamespace = $1::pg_catalog.oid AND (t.typtype IN ('e', 'd', 'r', 'm') "
      " OR (t.typtype = 'c' AND c.relkind = 'c')) "
      "UNION ALL SELECT stxname, 'STATISTICS' FROM pg_catalog.pg_statistic_ext "
      "WHERE stxnamespace = $1::pg_catalog.oid ORDER BY 2, 1",
      {oid}, run.stop());
  for (std::size_t row = 0; row < others.rows(); ++row) {
    execute(fmt::format("ALTER {} {} SET SCHEMA {}", others.text(row, 1),
                        qualified(staging, others.text(row, 0)), quote_identifier(schema)));
  }
  // The constructors of ranges do not go with their types.
  const auto constructors = target.query(
      "SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p "
      "WHERE p.pronamespace = $1::pg_catalog.oid AND EXISTS (SELECT FROM pg_catalog.pg_depend d "
      " WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid "
      " AND d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.deptype = 'i')",
      {oid}, run.stop());
  for (std::size_t row = 0; row < constructors.rows(); ++row) {
    execute(fmt::format("ALTER FUNCTION {} SET SCHEMA {}", constructors.text(row, 0),
                        quote_identifier(schema)));
  }
  // Without CASCADE: nothing may be left in it.
  execute("DROP SCHEMA " + quote_identifier(staging));
}

std::string schema_in_target(const proto::ObjectRestoreSpec& spec, const std::string& schema) {
  return spec.into_schema().empty() ? schema : spec.into_schema();
}

std::string name_in_target(const proto::ObjectRestoreSpec& spec, const std::string& name) {
  const bool renamed = !spec.new_table_name().empty() && name == spec.tables(0).name();
  return renamed ? spec.new_table_name() : name;
}

}  // namespace holdfast::restore
