#include "restore/table_preparation.h"

#include <fmt/format.h>

#include <set>

#include "base/error.h"
#include "restore/catalog_text.h"
#include "restore/missing_functions.h"
#include "restore/prepared_transactions.h"
#include "restore/table_views.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;
using postgres::quote_identifier;

std::string describe(const proto::TablePattern& pattern) {
  std::string text = pattern.database();
  if (!pattern.schema().empty()) text += "." + pattern.schema();
  return text + "." + (pattern.name().empty() ? "*" : pattern.name());
}

bool has_relation(Connection& live, const std::string& name, const Stop& stop) {
  return live.query("SELECT pg_catalog.to_regclass($1) IS NOT NULL", {name}, stop).boolean(0, 0);
}

/// The keyword of ALTER for a relation; empty for anything else.
std::string_view alter_keyword(StagedObject::Kind kind) {
  switch (kind) {
    case StagedObject::Kind::Table:
      return "TABLE";
    case StagedObject::Kind::ForeignTable:
      return "FOREIGN TABLE";
    case StagedObject::Kind::Sequence:
      return "SEQUENCE";
    case StagedObject::Kind::View:
      return "VIEW";
    case StagedObject::Kind::MaterializedView:
      return "MATERIALIZED VIEW";
    default:
      return {};
  }
}

StagedObject::Kind kind_of(const std::string& relkind) {
  if (relkind == "S") return StagedObject::Kind::Sequence;
  if (relkind == "f") return StagedObject::Kind::ForeignTable;
  if (relkind == "v") return StagedObject::Kind::View;
  if (relkind == "m") return StagedObject::Kind::MaterializedView;
  return StagedObject::Kind::Table;
}

/// One preparation: the steps in their order.
class Preparation {
 public:
  Preparation(const ObjectRestoreRun& run, Connection& workshop, Connection& live, TableSet& tables)
      : run_(run), spec_(run.spec), workshop_(workshop), live_(live), tables_(tables) {}

  void run() {
    release_prepared(workshop_, stop());
    detach();
    settle_views(run_, workshop_, live_, tables_);
    settle_functions(run_, workshop_, live_, tables_);
    settle_foreign_keys();
    settle_sequences();
    settle_owned_sequences();
    make_staging_schemas();
    stage_types();
    stage_statistics();
    stage_relations();
  }

 private:
  const Stop& stop() const { return run_.stop(); }
  void execute(const std::string& sql) { workshop_.simple_query(sql, stop()); }
  postgres::QueryResult ask(const std::string& sql) { return workshop_.query(sql, stop()); }

  /// From parents that are not restored.
  void detach() {
    const auto links = ask(fmt::format(
        "SELECT pn.nspname, p.relname, cn.nspname, c.relname, c.relispartition "
        "FROM pg_catalog.pg_inherits i "
        "JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid "
        "JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace "
        "JOIN pg_catalog.pg_class p ON p.oid = i.inhparent "
        "JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'f') AND i.inhrelid IN ({0}) AND i.inhparent NOT IN ({0})",
        tables_.oids));
    for (std::size_t row = 0; row < links.rows(); ++row) {
      const std::string parent = qualified(links.text(row, 0), links.text(row, 1));
      const std::string child = qualified(links.text(row, 2), links.text(row, 3));
      execute(links.boolean(row, 4)
                  ? fmt::format("ALTER TABLE {} DETACH PARTITION {}", parent, child)
                  : fmt::format("ALTER TABLE {} NO INHERIT {}", child, parent));
    }
  }

  void settle_foreign_keys() {
    const auto keys = ask(fmt::format(
        "SELECT n.nspname, c.relname, k.conname, c.relkind, rn.nspname, r.relname, r.oid, k.oid, "
        "k.confrelid = k.conrelid "
        "FROM pg_catalog.pg_constraint k "
        "JOIN pg_catalog.pg_class c ON c.oid = k.conrelid "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_catalog.pg_class r ON r.oid = k.confrelid "
        "JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace "
        "WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid IN ({0}) "
        "AND (k.confrelid NOT IN ({0}) OR ({1} AND k.confrelid = k.conrelid)) ORDER BY 1, 2, 3",
        // A filter may leave out rows that rows of the same table refer to.
        tables_.oids, !spec_.where().empty()));
    for (std::size_t row = 0; row < keys.rows(); ++row) {
      const std::string referenced = qualified(keys.text(row, 4), keys.text(row, 5));
      if (keys.boolean(row, 8) || has_relation(live_, referenced, stop())) {
        // Made without a look at the rows first, so that nobody who writes to the other table waits
        // for it. (Partitioned tables can have no such key.)
        if (keys.text(row, 3) == "p") continue;
        execute(
            fmt::format("UPDATE pg_catalog.pg_constraint SET convalidated = false WHERE oid = {}",
                        keys.text(row, 7)));
        unvalidated_.push_back({.schema = keys.text(row, 0),
                                .table = keys.text(row, 1),
                                .name = keys.text(row, 2),
                                .own_rows = keys.boolean(row, 8)});
        continue;
      }
      if (!spec_.skip_missing_foreign_keys()) {
        throw Error(sqlstate::kUndefinedTable,
                    fmt::format("cannot restore table \"{}\" without referenced table {} (or "
                                "\"skip_missing_foreign_keys\" option)",
                                keys.text(row, 1), keys.text(row, 6)))
            .detail(fmt::format("Foreign key \"{}\" refers to {}, which is not restored and does "
                                "not exist in database \"{}\".",
                                keys.text(row, 2), referenced, spec_.into_db()));
      }
      execute(fmt::format("ALTER TABLE {} DROP CONSTRAINT {}",
                          qualified(keys.text(row, 0), keys.text(row, 1)),
                          quote_identifier(keys.text(row, 2))));
    }
  }

  /// Sequences that a default uses, and that come with none of the tables.
  void settle_sequences() {
    const auto uses = ask(fmt::format(
        "SELECT DISTINCT n.nspname, c.relname, a.attname, sn.nspname, s.relname, s.oid "
        "FROM pg_catalog.pg_attrdef ad "
        "JOIN pg_catalog.pg_class c ON c.oid = ad.adrelid "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ad.adnum "
        "JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass "
        " AND d.objid = ad.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
        "JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' "
        "JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace "
        "WHERE c.oid IN ({0}) AND s.oid NOT IN ({0}) AND NOT EXISTS ("
        " SELECT FROM pg_catalog.pg_depend o "
        " WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objid = s.oid "
        " AND o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
        " AND o.deptype IN ('a', 'i') AND o.refobjid IN ({0})) ORDER BY 1, 2, 3",
        tables_.oids));
    for (std::size_t row = 0; row < uses.rows(); ++row) {
      const std::string sequence = qualified(uses.text(row, 3), uses.text(row, 4));
      if (has_relation(live_, sequence, stop())) continue;
      if (!spec_.skip_missing_sequences()) {
        throw Error(sqlstate::kUndefinedTable,
                    fmt::format("cannot restore table \"{}\" without referenced sequence {} (or "
                                "\"skip_missing_sequences\" option)",
                                uses.text(row, 1), uses.text(row, 5)))
            .detail(fmt::format("The default of column \"{}\" uses {}, which is not restored and "
                                "does not exist in database \"{}\".",
                                uses.text(row, 2), sequence, spec_.into_db()));
      }
      execute(fmt::format("ALTER TABLE {} ALTER {} DROP DEFAULT",
                          qualified(uses.text(row, 0), uses.text(row, 1)),
                          quote_identifier(uses.text(row, 2))));
    }
  }

  /// Sequences that were named themselves.
  void settle_owned_sequences() {
    const auto owned = ask(fmt::format(
        "SELECT n.nspname, s.relname, d.refobjid, d.refobjid::pg_catalog.regclass::text, d.deptype "
        "FROM pg_catalog.pg_class s JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace "
        "JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass "
        " AND d.objid = s.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
        " AND d.deptype IN ('a', 'i') WHERE s.relkind = 'S' AND s.oid IN ({0}) "
        "AND d.refobjid NOT IN ({0}) ORDER BY 1, 2",
        tables_.oids));
    for (std::size_t row = 0; row < owned.rows(); ++row) {
      if (owned.text(row, 4) == "i") {
        throw Error(
            sqlstate::kFeatureNotSupported,
            fmt::format("cannot restore sequence \"{}\" without its table", owned.text(row, 1)))
            .detail(fmt::format("It belongs to an identity column of {}.", owned.text(row, 3)));
      }
      if (!spec_.skip_missing_sequence_owners()) {
        throw Error(sqlstate::kUndefinedTable,
                    fmt::format("cannot restore sequence \"{}\" without referenced owner table {} "
                                "(or \"skip_missing_sequence_owners\" option)",
                                owned.text(row, 1), owned.text(row, 2)))
            .detail(fmt::format("It is owned by {}.", owned.text(row, 3)));
      }
      execute(fmt::format("ALTER SEQUENCE {} OWNED BY NONE",
                          qualified(owned.text(row, 0), owned.text(row, 1))));
    }
  }

  std::string& staging_for(const std::string& schema) {
    std::string& name = tables_.staging[schema];
    if (name.empty()) {
      // Number 0 is the builder's.
      name = run_.hidden_name(tables_.staging.size());
      execute("CREATE SCHEMA " + quote_identifier(name));
    }
    return name;
  }

  void make_staging_schemas() {
    for (const auto& object : tables_.objects) staging_for(object.schema);
  }

  void stage(const StagedObject& object, std::string_view kind) {
    execute(fmt::format("ALTER {} {} SET SCHEMA {}", kind, qualified(object.schema, object.name),
                        quote_identifier(staging_for(object.schema))));
  }

  static constexpr std::string_view kTypeShape =
      "t.typtype::text || CASE t.typtype "
      "WHEN 'e' THEN (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel), ',' "
      "               ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = "
      "t.oid) "
      "WHEN 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) || t.typnotnull::text "
      "  || COALESCE((SELECT pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(k.oid), ',' "
      "               ORDER BY k.conname) FROM pg_catalog.pg_constraint k "
      "               WHERE k.contypid = t.oid AND k.contype = 'c'), '') "
      "WHEN 'c' THEN (SELECT pg_catalog.string_agg(a.attname || ' ' || "
      "               pg_catalog.format_type(a.atttypid, a.atttypmod), ',' ORDER BY a.attnum) "
      "               FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid "
      "               AND a.attnum > 0 AND NOT a.attisdropped) "
      "WHEN 'r' THEN (SELECT pg_catalog.format_type(r.rngsubtype, NULL) FROM pg_catalog.pg_range r "
      "               WHERE r.rngtypid = t.oid) ELSE '' END";

  /// Users' types of the columns. Those that the live server has are used if they are the same.
  void stage_types() {
    const auto types = ask(fmt::format(
        "WITH RECURSIVE used(oid) AS ("
        " SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid IN ({0}) "
        "  AND a.attnum > 0 AND NOT a.attisdropped "
        " UNION SELECT c.reloftype FROM pg_catalog.pg_class c WHERE c.oid IN ({0}) "
        "  AND c.reloftype <> 0 "
        " UNION SELECT part.oid FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid "
        " CROSS JOIN LATERAL (SELECT t.typelem AS oid UNION ALL SELECT t.typbasetype "
        "  UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid "
        "{1}"
        "  UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a "
        "   WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 "
        "   AND NOT a.attisdropped) part WHERE part.oid <> 0) "
        "SELECT n.nspname, t.typname, t.typtype, {2}, "
        " EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' "
        "  AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid), t.oid, "
        " COALESCE(rel.relkind IN ('r', 'p', 'f', 'v', 'm'), false), "
        " COALESCE(rel.oid IN ({0}), false) "
        "FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid "
        "JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace "
        "LEFT JOIN pg_catalog.pg_class rel ON rel.oid = t.typrelid "
        "WHERE t.oid >= 16384 AND t.typtype IN ('e', 'd', 'c', 'r', 'b') "
        "AND NOT (t.typelem <> 0 AND t.typlen = -1 AND t.typcategory = 'A') ORDER BY 1, 2",
        tables_.oids,
        run_.live_major >= 14 && workshop_.server_major() >= 14
            ? "  UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = "
              "t.oid "
            : "",
        kTypeShape));
    for (std::size_t row = 0; row < types.rows(); ++row) {
      // The row type of one of the tables comes with it.
      if (types.boolean(row, 7)) continue;
      const std::string schema = types.text(row, 0);
      const std::string name = types.text(row, 1);
      const auto there = live_.query(
          fmt::format("SELECT {} FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n "
                      "ON n.oid = t.typnamespace WHERE n.nspname = $1 AND t.typname = $2",
                      kTypeShape),
          {schema, name}, stop());
      if (there.rows() != 0) {
        if (there.text(0, 0) == types.text(row, 3)) continue;
        throw Error(sqlstate::kDuplicateObject,
                    fmt::format("\"{}\" is not compatible with type \"{}\" existing in cluster",
                                name, name));
      }
      if (types.boolean(row, 4) || types.boolean(row, 6) || types.text(row, 2) == "b") {
        throw Error(sqlstate::kUndefinedObject,
                    fmt::format("cannot restore table \"{}\" without referenced type {}",
                                tables_.objects.front().name, types.text(row, 5)))
            .detail(fmt::format("Type {} does not exist in database \"{}\".",
                                qualified(schema, name), spec_.into_db()));
      }
      const StagedObject type{
          .kind = types.text(row, 2) == "d" ? StagedObject::Kind::Domain : StagedObject::Kind::Type,
          .schema = schema,
          .name = name,
          .oid = {}};
      stage(type, type.kind == StagedObject::Kind::Domain ? "DOMAIN" : "TYPE");
      tables_.objects.push_back(type);
    }
  }

  void stage_statistics() {
    const auto statistics = ask(fmt::format(
        "SELECT n.nspname, s.stxname FROM pg_catalog.pg_statistic_ext s "
        "JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid IN ({}) "
        "ORDER BY 1, 2",
        tables_.oids));
    for (std::size_t row = 0; row < statistics.rows(); ++row) {
      const StagedObject object{.kind = StagedObject::Kind::Statistics,
                                .schema = statistics.text(row, 0),
                                .name = statistics.text(row, 1),
                                .oid = {}};
      stage(object, "STATISTICS");
      tables_.objects.push_back(object);
    }
  }

  void stage_relations() {
    for (const auto& object : tables_.objects) {
      if (const auto keyword = alter_keyword(object.kind); !keyword.empty()) {
        stage(object, keyword);
      }
    }
    for (const auto& key : unvalidated_) {
      tables_.validations.push_back(
          {.statement = fmt::format("ALTER TABLE {} VALIDATE CONSTRAINT {}",
                                    qualified(tables_.staging.at(key.schema), key.table),
                                    quote_identifier(key.name)),
           .own_rows = key.own_rows});
    }
  }

  struct Key {
    std::string schema;
    std::string table;
    std::string name;
    bool own_rows = false;
  };

  const ObjectRestoreRun& run_;
  const proto::ObjectRestoreSpec& spec_;
  Connection& workshop_;
  Connection& live_;
  TableSet& tables_;
  std::vector<Key> unvalidated_;
};

}  // namespace

std::vector<std::string> TableSet::staging_schemas() const {
  std::vector<std::string> names;
  for (const auto& [schema, name] : staging) names.push_back(name);
  return names;
}

TableSet resolve_tables(const ObjectRestoreRun& run, Connection& workshop,
                        const collection::proto::ScopeDatabase* scope) {
  const bool some = scope != nullptr && !scope->tables().empty();
  std::set<std::int64_t> held;
  std::string in_scope = "true";
  if (some) {
    held.insert(scope->relations().begin(), scope->relations().end());
    in_scope = fmt::format("c.oid IN (0{}{})", held.empty() ? "" : ", ", fmt::join(held, ", "));
    // As parts of what is named, and not by themselves.
    held.insert(scope->later_relations().begin(), scope->later_relations().end());
  }
  TableSet tables;
  std::set<std::string> seen;
  for (const auto& pattern : run.spec.tables()) {
    const auto found = workshop.query(
        fmt::format(
            "WITH RECURSIVE named AS ("
            " SELECT c.oid FROM pg_catalog.pg_class c "
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            " WHERE {} AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' "
            " AND n.nspname <> 'information_schema' "
            " AND (c.relkind IN ('r', 'p', 'f') OR (c.relkind IN ('S', 'v', 'm') AND $2 <> '')) "
            " AND ($1 = '' OR n.nspname = $1) AND ($2 = '' OR c.relname = $2) "
            " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' "
            "  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid)), "
            "whole AS (SELECT oid FROM named UNION SELECT i.inhrelid FROM whole "
            " JOIN pg_catalog.pg_inherits i ON i.inhparent = whole.oid "
            " JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition) "
            "SELECT c.oid, n.nspname, c.relname, c.relkind FROM whole "
            "JOIN pg_catalog.pg_class c ON c.oid = whole.oid "
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY 2, 3",
            in_scope),
        {pattern.schema(), pattern.name()}, run.stop());
    if (found.rows() == 0) {
      throw Error(
          sqlstate::kUndefinedTable,
          fmt::format("failed to resolve targets in the BACKUP location specified by the "
                      "RESTORE statement, use SHOW BACKUP to find correct targets: table "
                      "\"{}\" does not exist, or invalid RESTORE timestamp: supplied backups "
                      "do not cover requested time",
                      describe(pattern)));
    }
    for (std::size_t row = 0; row < found.rows(); ++row) {
      if (!seen.insert(found.text(row, 0)).second) continue;
      if (some && !held.contains(found.integer(row, 0))) {
        if (!run.between.wal_layer.empty()) {
          throw unknown_file(fmt::format("partition \"{}\"", found.text(row, 2)), run.between);
        }
        throw Error(sqlstate::kDataCorrupted,
                    fmt::format("the backup lacks partition \"{}\" of a table that it holds",
                                found.text(row, 2)))
            .detail("It was made in the moment in which the backup ended.")
            .hint("Restore an earlier or later backup.");
      }
      tables.oids += (tables.oids.empty() ? "" : ", ") + found.text(row, 0);
      tables.objects.push_back({.kind = kind_of(found.text(row, 3)),
                                .schema = found.text(row, 1),
                                .name = found.text(row, 2),
                                .oid = found.text(row, 0)});
    }
  }
  return tables;
}

postgres::WalScope::Relations files_of(const ObjectRestoreRun& run, Connection& workshop,
                                       const TableSet& tables) {
  // Indexes of users' tables are not read: rows are. Those of TOAST are.
  const auto files = workshop.query(
      fmt::format("WITH wanted AS (SELECT c.oid, c.reltoastrelid FROM pg_catalog.pg_class c "
                  // What materialized views hold is not read.
                  " WHERE c.oid IN ({0}) AND c.relkind <> 'm') "
                  "SELECT pg_catalog.pg_relation_filenode(oid) FROM wanted "
                  "UNION SELECT pg_catalog.pg_relation_filenode(reltoastrelid) FROM wanted "
                  "UNION SELECT pg_catalog.pg_relation_filenode(i.indexrelid) FROM wanted "
                  " JOIN pg_catalog.pg_index i ON i.indrelid = wanted.reltoastrelid "
                  "UNION SELECT pg_catalog.pg_relation_filenode(d.objid) FROM wanted "
                  " JOIN pg_catalog.pg_depend d ON d.refobjid = wanted.oid "
                  "  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
                  "  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass "
                  "  AND d.deptype IN ('a', 'i') "
                  " JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' "
                  // The catalogs, without the large objects.
                  "UNION SELECT pg_catalog.pg_relation_filenode(c.oid) FROM pg_catalog.pg_class c "
                  " WHERE c.oid < 16384 AND c.oid NOT IN (2613, 2683)",
                  tables.oids),
      run.stop());
  postgres::WalScope::Relations relations{.all = false, .files = {}};
  for (std::size_t row = 0; row < files.rows(); ++row) {
    if (files.value(row, 0)) {
      relations.files.insert(static_cast<std::uint32_t>(files.integer(row, 0)));
    }
  }
  return relations;
}

void prepare_tables(const ObjectRestoreRun& run, Connection& workshop, Connection& live,
                    TableSet& tables) {
  Preparation(run, workshop, live, tables).run();
}

}  // namespace holdfast::restore
