#include "restore/handover.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "base/error.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;
using postgres::quote_identifier;
using postgres::quote_literal;

/// Each statement locks what it changes until the end of its transaction, and the lock table is
/// small.
constexpr std::size_t kBatch = 100;

/// For what pg_identify_object() calls it. Source: PostgreSQL
/// src/backend/catalog/objectaddress.c (getObjectTypeDescription).
std::string alter_kind(const std::string& type) {
  if (type == "function" || type == "procedure" || type == "aggregate") return "ROUTINE";
  if (type == "statistics object") return "STATISTICS";
  if (type == "foreign-data wrapper") return "FOREIGN DATA WRAPPER";
  std::string kind = type;
  std::ranges::transform(kind, kind.begin(), [](unsigned char c) { return std::toupper(c); });
  return kind;
}

std::string in_schemas(std::string_view column, const std::vector<std::string>& schemas) {
  std::string list;
  for (const auto& schema : schemas) list += (list.empty() ? "" : ", ") + quote_literal(schema);
  const std::string filter = list.empty()
                                 ? "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
                                 : fmt::format("n.nspname IN ({})", list);
  return fmt::format("{} IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE {})", column,
                     filter);
}

std::string owned_objects_query(int major, const std::vector<std::string>& schemas) {
  std::string sql;
  const auto add = [&](std::string_view catalog, std::string_view owner, std::string_view more,
                       std::string_view where) {
    sql += fmt::format(
        "{}SELECT 'pg_catalog.{}'::pg_catalog.regclass::pg_catalog.oid AS classid, o.oid AS objid, "
        "o.{} AS owner, {} FROM pg_catalog.{} o WHERE {}",
        sql.empty() ? "" : " UNION ALL ", catalog, owner,
        more.empty() ? "false AS definer, false AS super" : more, catalog, where);
  };
  const auto in_schema = [&](std::string_view catalog, std::string_view prefix) {
    add(catalog, fmt::format("{}owner", prefix), "",
        in_schemas(fmt::format("o.{}namespace", prefix), schemas));
  };
  add("pg_class", "relowner", "",
      in_schemas("o.relnamespace", schemas) +
          " AND o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND o.relpersistence <> 't' "
          // A table takes its sequences along.
          "AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE o.relkind = 'S' "
          " AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = o.oid "
          " AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
          " AND d.deptype IN ('a', 'i'))");
  add("pg_type", "typowner", "",
      in_schemas("o.typnamespace", schemas) +
          " AND (o.typtype IN ('e', 'd', 'r') OR (o.typtype = 'b' AND NOT EXISTS ("
          "  SELECT FROM pg_catalog.pg_type e WHERE e.typarray = o.oid)) "
          " OR (o.typtype = 'c' AND EXISTS (SELECT FROM pg_catalog.pg_class c "
          "  WHERE c.oid = o.typrelid AND c.relkind = 'c')))");
  add("pg_proc", "proowner", "o.prosecdef, false", in_schemas("o.pronamespace", schemas));
  in_schema("pg_operator", "opr");
  in_schema("pg_opclass", "opc");
  in_schema("pg_opfamily", "opf");
  in_schema("pg_collation", "coll");
  in_schema("pg_conversion", "con");
  in_schema("pg_ts_dict", "dict");
  in_schema("pg_ts_config", "cfg");
  in_schema("pg_statistic_ext", "stx");
  if (schemas.empty()) {
    add("pg_namespace", "nspowner", "",
        "o.nspname !~ '^pg_' AND o.nspname <> 'information_schema'");
    add("pg_language", "lanowner", "", "true");
    add("pg_foreign_data_wrapper", "fdwowner", "false, true", "true");
    add("pg_foreign_server", "srvowner", "", "true");
    add("pg_event_trigger", "evtowner", "false, true", "true");
    add("pg_publication", "pubowner",
        major >= 15 ? "false, o.puballtables OR EXISTS (SELECT FROM "
                      "pg_catalog.pg_publication_namespace p WHERE p.pnpubid = o.oid)"
                    : "false, o.puballtables",
        "true");
  }
  return fmt::format(
      "SELECT i.type, i.identity, pg_catalog.pg_get_userbyid(x.owner), x.definer, x.super "
      "FROM ({}) AS x(classid, objid, owner, definer, super) "
      "CROSS JOIN LATERAL pg_catalog.pg_identify_object(x.classid, x.objid, 0) i "
      "WHERE x.objid >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d "
      " WHERE d.classid = x.classid AND d.objid = x.objid AND d.objsubid = 0 "
      " AND d.deptype = 'e') ORDER BY 1, 2",
      sql);
}

std::string give(const OwnedObject& object, const std::string& owner) {
  return fmt::format("ALTER {} {} OWNER TO {}", object.kind, object.identity,
                     quote_identifier(owner));
}

}  // namespace

std::vector<OwnedObject> list_owned_objects(Connection& connection,
                                            const std::vector<std::string>& schemas,
                                            const Stop& stop) {
  const auto rows = connection.query(owned_objects_query(connection.server_major(), schemas), stop);
  std::vector<OwnedObject> objects;
  for (std::size_t row = 0; row < rows.rows(); ++row) {
    objects.push_back({.kind = alter_kind(rows.text(row, 0)),
                       .identity = rows.text(row, 1),
                       .owner = rows.text(row, 2),
                       .runs_as_owner = rows.boolean(row, 3),
                       .superuser_only = rows.boolean(row, 4)});
  }
  return objects;
}

bool is_superuser(Connection& connection, const std::string& role, const Stop& stop) {
  return connection
             .query("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1 AND rolsuper", {role}, stop)
             .rows() != 0;
}

void run_in_batches(Connection& target, const std::vector<std::string>& statements,
                    const Stop& stop) {
  for (std::size_t at = 0; at < statements.size(); at += kBatch) {
    std::string sql;
    for (std::size_t i = at; i < std::min(at + kBatch, statements.size()); ++i) {
      sql += statements[i] + ";";
    }
    target.simple_query(sql, stop);
  }
}

void make_builder(const ObjectRestoreRun& run, Connection& live) {
  const std::string name = run.hidden_name(0);
  run.checkpoint.set_builder(name);
  run.save_checkpoint();
  live.simple_query(fmt::format("CREATE ROLE {} NOLOGIN", quote_identifier(name)), run.stop());
}

void give_to_builder(const ObjectRestoreRun& run, Connection& target,
                     const std::vector<std::string>& schemas) {
  std::vector<std::string> statements;
  for (const auto& object : list_owned_objects(target, schemas, run.stop())) {
    if (!object.superuser_only) statements.push_back(give(object, run.checkpoint.builder()));
  }
  run_in_batches(target, statements, run.stop());
}

void drop_builder(const ObjectRestoreRun& run, Connection& target) {
  const std::string& name = run.checkpoint.builder();
  if (name.empty()) return;
  const auto found = target.query(
      "SELECT r.oid, EXISTS (SELECT FROM pg_catalog.pg_shdepend s WHERE s.deptype = 'o' "
      " AND s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = r.oid) "
      "FROM pg_catalog.pg_roles r WHERE r.rolname = $1",
      {name}, run.stop());
  if (found.rows() == 0) return;
  if (found.boolean(0, 1)) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("role \"{}\", which built what is restored, owns something yet", name));
  }
  target.simple_query(fmt::format("DROP OWNED BY {0}; DROP ROLE {0}", quote_identifier(name)),
                      run.stop());
}

std::vector<std::string> ownership_statements(const ObjectRestoreRun& run, Connection& live,
                                              const std::vector<OwnedObject>& objects) {
  std::map<std::string, bool> superusers;
  const auto may_own_all = [&](const std::string& role) {
    const auto known = superusers.find(role);
    if (known != superusers.end()) return known->second;
    return superusers[role] = is_superuser(live, role, run.stop());
  };
  std::vector<std::string> statements;
  for (const auto& object : objects) {
    const std::string& owner = run.spec.grants() ? object.owner : run.spec.user();
    if (object.superuser_only && !may_own_all(owner)) {
      run.job.notice(fmt::format("{} {} stays with a superuser: \"{}\" may not own it", object.kind,
                                 object.identity, owner));
      continue;
    }
    statements.push_back(give(object, owner));
    if (object.runs_as_owner && owner != object.owner) {
      // Else what somebody wrote for himself would run with another's rights, for everybody.
      statements.push_back(
          fmt::format("ALTER {} {} SECURITY INVOKER", object.kind, object.identity));
      run.job.notice(
          fmt::format("function {} belonged to \"{}\": it runs with the rights of its caller now",
                      object.identity, object.owner));
    }
  }
  return statements;
}

}  // namespace holdfast::restore
