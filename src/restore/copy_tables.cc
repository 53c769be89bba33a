#include "restore/copy_tables.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "base/error.h"
#include "base/task_queue.h"
#include "postgres/copy_stream.h"
#include "restore/catalog_text.h"
#include "restore/early_indexes.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;
using postgres::quote_identifier;
using postgres::quote_literal;

/// A table's rows go before any index: PostgreSQL can put several processes at an index, so that
/// the last one takes no longer than it must, but not at a COPY.
constexpr std::uint64_t kRowsFirst = 1ULL << 62;

/// Types whose binary form is the same in every database: built-in ones with a binary form, enums
/// (their labels), and domains and ranges over such. Not those that name objects by OID (regclass
/// and its kin), nor arrays and records of users' types, which carry the type's OID.
/// Source: PostgreSQL src/backend/utils/adt/arrayfuncs.c (array_recv), rowtypes.c (record_recv).
constexpr std::string_view kPortableTypes =
    "WITH RECURSIVE base(type, at) AS ("
    "  SELECT oid, oid FROM pg_catalog.pg_type"
    "  UNION ALL"
    "  SELECT b.type, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE r.rngsubtype END"
    "  FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.at"
    "  LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid"
    "  WHERE t.typtype IN ('d', 'r') AND t.oid >= 16384),"
    " portable AS ("
    "  SELECT DISTINCT b.type FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.at"
    "  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem"
    "  WHERE t.typtype = 'e' OR (t.oid < 16384 AND t.typsend <> 0 AND t.typreceive <> 0"
    "   AND t.typtype IN ('b', 'r', 'm') AND t.typname !~ '^_?reg'"
    "   AND COALESCE(e.typname, '') !~ '^reg'))";

/// Both sides speak the encoding of the source, so that nothing is converted twice.
void set_up_copy(Connection& connection, const std::string& encoding, const Stop& stop) {
  connection.simple_query(
      fmt::format("SET client_encoding = {}; SET datestyle = ISO; SET intervalstyle = postgres;"
                  "SET extra_float_digits = 3; SET bytea_output = hex",
                  quote_literal(encoding)),
      stop);
}

/// One worker's two connections.
class TableCopier {
 public:
  TableCopier(const ObjectRestoreRun& run, const CopyRequest& request, const Stop& stop)
      : verify_only_(run.spec.verify_data()), from_(Connection::open(request.source, stop)) {
    const std::string encoding =
        from_.query("SELECT pg_catalog.current_setting('server_encoding')", stop).text(0, 0);
    set_up_copy(from_, encoding, stop);
    if (verify_only_) return;
    to_ = Connection::open(request.target, stop);
    set_up_copy(*to_, encoding, stop);
  }

  /// Gives the number of rows.
  std::int64_t copy(const TableRows& table, const postgres::CopyProgress& progress,
                    const Stop& stop) {
    const std::string_view format = table.binary ? "binary" : "text";
    const std::string columns =
        table.columns.empty() ? "" : table.columns.substr(1, table.columns.size() - 2);
    const std::string copy_out =
        table.filter.empty() && table.source.empty()
            ? fmt::format("COPY {} {} TO STDOUT (FORMAT {})", table.name, table.columns, format)
            : fmt::format("COPY (SELECT {} FROM {} {}) TO STDOUT (FORMAT {})", columns,
                          table.source.empty() ? table.name : table.source, table.filter, format);
    if (verify_only_) {
      return static_cast<std::int64_t>(postgres::copy_and_discard(from_, copy_out, progress, stop));
    }
    try {
      // A repetition starts from nothing, and rows that are written with their table need no
      // further look by VACUUM. What an extension put into its table at its creation stays.
      to_->simple_query(
          table.extension ? "BEGIN" : fmt::format("BEGIN; TRUNCATE ONLY {}", table.name), stop);
      const auto rows = static_cast<std::int64_t>(postgres::copy_between(
          from_, copy_out, *to_,
          fmt::format("COPY {} {} FROM STDIN (FORMAT {}{})", table.name, table.columns, format,
                      table.extension ? "" : ", FREEZE"),
          progress, stop));
      to_->simple_query("COMMIT", stop);
      return rows;
    } catch (Error& error) {
      throw error.at(fmt::format("table {}", table.name));
    }
  }

 private:
  bool verify_only_;
  Connection from_;
  std::optional<Connection> to_;
};

}  // namespace

std::vector<TableRows> list_table_rows(const ObjectRestoreRun& run, Connection& workshop,
                                       const std::vector<std::string>& schemas) {
  const std::string sql = fmt::format(
      "{} SELECT n.nspname, c.relname, c.relpersistence, "
      "  COALESCE((SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' "
      "                   ORDER BY a.attnum) FROM pg_catalog.pg_attribute a "
      "            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
      "              AND a.attgenerated = ''), ''), "
      "  NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid "
      "              AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' "
      "              AND a.atttypid NOT IN (SELECT type FROM portable)), "
      "  pg_catalog.pg_relation_size(c.oid) "
      "    + COALESCE(pg_catalog.pg_relation_size(NULLIF(c.reltoastrelid, 0)), 0), "
      "  d.objid IS NOT NULL, "
      "  e.extcondition[pg_catalog.array_position(e.extconfig, c.oid)], c.oid "
      "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
      "LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass "
      "     AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e' "
      "LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid "
      "WHERE c.relkind = 'r' AND c.relpersistence IN ('p', 'u') AND {} "
      "  AND (d.objid IS NULL OR c.oid = ANY (e.extconfig)) "
      "ORDER BY 6 DESC",
      kPortableTypes, schema_filter(schemas));
  const auto result = workshop.query(sql, run.stop());
  std::vector<TableRows> tables;
  for (std::size_t row = 0; row < result.rows(); ++row) {
    TableRows table{
        .schema = result.text(row, 0),
        .name = quote_identifier(result.text(row, 0)) + "." + quote_identifier(result.text(row, 1)),
        .columns = result.text(row, 3),
        .filter = result.text(row, 7),
        .source = {},
        .oid = static_cast<std::uint32_t>(result.integer(row, 8)),
        .binary = result.boolean(row, 4),
        .extension = result.boolean(row, 6),
        .bytes = static_cast<std::uint64_t>(result.integer(row, 5))};
    if (!table.columns.empty()) table.columns = "(" + table.columns + ")";
    if (result.text(row, 2) == "u") {
      run.job.notice(
          fmt::format("table \"{}\" is unlogged: its rows are not in the backup, only its "
                      "definition is restored",
                      result.text(row, 1)));
      continue;
    }
    tables.push_back(std::move(table));
  }
  return tables;
}

std::int64_t copy_tables(const ObjectRestoreRun& run, const CopyRequest& request) {
  std::uint64_t total = 0;
  for (const auto& table : request.tables) total += table.bytes;
  std::atomic<std::uint64_t> done = 0;
  const auto progress = [&](std::uint64_t bytes) {
    run.job.report({.bytes_done = done += bytes,
                    .bytes_total = std::max<std::uint64_t>(total, done),
                    .phase = run.spec.verify_data() ? "reading rows" : "copying rows"});
  };
  std::atomic<std::int64_t> rows = 0;
  std::atomic<std::size_t> waiting = request.tables.size();
  std::atomic<std::size_t> left = request.tables.size();
  std::vector<std::optional<TableCopier>> copiers(run.workers);
  TaskQueue queue;
  for (std::size_t i = 0; i < request.tables.size(); ++i) {
    const TableRows& table = request.tables[i];
    // Of two tables, the one that more is to be built from goes first.
    const std::uint64_t later = request.indexes != nullptr ? request.indexes->bytes(i) : 0;
    queue.add(kRowsFirst + table.bytes + later, [&, i](std::size_t worker, const Stop& stop) {
      stop.check();
      run.job.pause_point("restore.objects_copy");
      --waiting;
      auto& copier = copiers[worker];
      if (!copier) copier.emplace(run, request, stop);
      rows += copier->copy(request.tables[i], progress, stop);
      // What the worker does next has a session of its own, and sessions are scarce.
      if (waiting == 0) copier.reset();
      if (request.indexes != nullptr) request.indexes->add_to(queue, i);
      if (--left == 0 && request.all_copied) request.all_copied();
    });
  }
  if (request.tables.empty() && request.all_copied) request.all_copied();
  queue.run(run.workers, run.stop());
  return rows;
}

void copy_sequences(const ObjectRestoreRun& run, Connection& workshop, Connection& target,
                    const std::vector<std::string>& schemas) {
  const auto sequences = workshop.query(
      fmt::format(
          "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) "
          "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
          "WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {} AND NOT EXISTS ("
          "  SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e "
          "    ON e.oid = d.refobjid AND NOT COALESCE(c.oid = ANY (e.extconfig), false) "
          "  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid "
          "    AND d.deptype = 'e') ORDER BY 1",
          schema_filter(schemas)),
      run.stop());
  for (std::size_t row = 0; row < sequences.rows(); ++row) {
    const std::string name = sequences.text(row, 0);
    const auto position = workshop.query("SELECT last_value, is_called FROM " + name, run.stop());
    target.query("SELECT pg_catalog.setval($1::pg_catalog.regclass, $2::bigint, $3::boolean)",
                 {name, position.text(0, 0), position.text(0, 1)}, run.stop());
  }
}

}  // namespace holdfast::restore
