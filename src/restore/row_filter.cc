#include "restore/row_filter.h"

#include <fmt/core.h>

#include "base/error.h"
#include "restore/lock_down.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;
using postgres::quote_identifier;
using postgres::quote_literal;

constexpr SqlState kWrongObjectType{"42809"};

constexpr std::string_view kWhatMayBeUsed =
    "A filter may use what PostgreSQL itself provides, and immutable functions that extensions "
    "have in C.";

}  // namespace

std::string RowFilter::view(const std::string& oid) const {
  return fmt::format("{}.rows_{}", quote_identifier(run_.hidden_name(0)), oid);
}

postgres::ConnectOptions RowFilter::connect() const {
  auto options = workshop_.connect_as(run_.hidden_name(0), database_);
  options.settings.insert_or_assign("search_path", path_);
  return options;
}

void RowFilter::define(Connection& superuser, const TableSet& tables) {
  table_ = run_.spec.tables(0).name();
  const auto found = superuser.query(
      fmt::format("SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), "
                  " EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid "
                  "  AND a.attnum > 0 AND NOT a.attisdropped) "
                  "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                  "ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.oid IN ({}) ORDER BY 1",
                  tables.oids),
      run_.stop());
  std::vector<Source> sources;
  for (std::size_t row = 0; row < found.rows(); ++row) {
    sources.push_back(
        {.oid = found.text(row, 0), .table = found.text(row, 1), .columns = found.boolean(row, 2)});
  }
  if (sources.empty()) {
    throw Error(kWrongObjectType,
                fmt::format("cannot use \"where\" option: \"{}\" is not a table with rows", table_))
        .hint("Leave the option out.");
  }
  // Operators of users' types are found in spite of the filter not being allowed to use them all:
  // it fails then, where another operator would give another result.
  const auto path = superuser.query(
      "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(nspname), ', ' "
      " ORDER BY nspname <> $1, nspname <> 'public', nspname) FROM pg_catalog.pg_namespace "
      "WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'",
      {run_.spec.tables(0).schema()}, run_.stop());
  path_ = "pg_catalog, " + path.text(0, 0);
  hint_ = "The columns of the table are: " + column_names(superuser, sources.front()) + ".";
  lock_down(superuser, run_.stop());
  make_role(superuser);
  create_views(sources);
  check_parts(superuser, tables);
}

std::string RowFilter::column_names(Connection& superuser, const Source& source) const {
  return superuser
      .query(
          "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' ORDER BY attnum) "
          "FROM pg_catalog.pg_attribute WHERE attrelid = $1::pg_catalog.oid AND attnum > 0 "
          "AND NOT attisdropped",
          {source.oid}, run_.stop())
      .text(0, 0);
}

void RowFilter::make_role(Connection& superuser) const {
  const std::string role = quote_identifier(run_.hidden_name(0));
  // Row security would leave out rows without a word.
  superuser.simple_query(fmt::format("CREATE ROLE {} LOGIN BYPASSRLS", role), run_.stop());
  superuser.simple_query(fmt::format("CREATE SCHEMA {0} AUTHORIZATION {0}", role), run_.stop());
  superuser.simple_query(
      "UPDATE pg_catalog.pg_database SET datconnlimit = -1 "
      "WHERE datname = pg_catalog.current_database() AND datconnlimit >= 0",
      run_.stop());
  const auto names = superuser.query(
      "SELECT pg_catalog.quote_ident(nspname) FROM pg_catalog.pg_namespace "
      "WHERE nspname !~ '^pg_' AND nspname <> $1",
      {run_.hidden_name(0)}, run_.stop());
  std::string grants =
      fmt::format("GRANT CONNECT ON DATABASE {} TO {}", quote_identifier(database_), role);
  for (std::size_t row = 0; row < names.rows(); ++row) {
    grants += fmt::format("; GRANT USAGE ON SCHEMA {} TO {}", names.text(row, 0), role);
  }
  superuser.simple_query(grants, run_.stop());
}

void RowFilter::create_views(const std::vector<Source>& sources) const {
  Connection role = Connection::open(connect(), run_.stop());
  for (const auto& source : sources) {
    // One statement, whatever the text is; nothing of it is evaluated yet.
    const std::string alias = quote_identifier(table_);
    const std::string sql = fmt::format(
        "CREATE VIEW {} AS SELECT {} FROM ONLY {} AS {} WHERE (\n{}\n)", view(source.oid),
        source.columns ? alias + ".*" : "1 AS one", source.table, alias, run_.spec.where());
    try {
      role.query(sql, run_.stop());
    } catch (const Error& error) {
      if (error.state() == sqlstate::kConnectionFailure) throw;
      throw Error(error.state(),
                  fmt::format("invalid filter for table \"{}\": {}", table_, error.message()))
          .detail(error.detail())
          .hint(error.hint().empty() ? hint_ : error.hint());
    }
  }
}

/// What the condition is made of: neither other tables, whose files are not here, nor functions
/// that the role may not execute.
void RowFilter::check_parts(Connection& superuser, const TableSet& tables) const {
  const std::string role = run_.hidden_name(0);
  const auto parts = fmt::format(
      "FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class v ON v.oid = w.ev_class "
      "JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace AND n.nspname = {} "
      "JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass "
      " AND d.objid = w.oid ",
      quote_literal(role));
  const auto others =
      superuser.query(fmt::format("SELECT c.oid::pg_catalog.regclass::text {}"
                                  "JOIN pg_catalog.pg_class c ON c.oid = d.refobjid "
                                  " AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
                                  "WHERE c.oid >= 16384 AND c.oid <> v.oid AND c.oid NOT IN ({}) "
                                  "ORDER BY 1 LIMIT 1",
                                  parts, tables.oids),
                      run_.stop());
  if (others.rows() != 0) {
    throw Error(
        sqlstate::kFeatureNotSupported,
        fmt::format("invalid filter for table \"{}\": it reads {}", table_, others.text(0, 0)))
        .detail("Only the table that is restored is there when the filter is evaluated.")
        .hint(hint_);
  }
  const auto functions = superuser.query(
      fmt::format("SELECT p.oid::pg_catalog.regprocedure::text {}"
                  "LEFT JOIN pg_catalog.pg_operator o ON o.oid = d.refobjid "
                  " AND d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass "
                  "JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode OR (p.oid = d.refobjid "
                  " AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass) "
                  "WHERE NOT pg_catalog.has_function_privilege({}, p.oid, 'EXECUTE') "
                  "ORDER BY 1 LIMIT 1",
                  parts, quote_literal(role)),
      run_.stop());
  if (functions.rows() == 0) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("invalid filter for table \"{}\": it may not use function {}", table_,
                          functions.text(0, 0)))
      .detail("Code of a backup is not run by a filter.")
      .hint(std::string(kWhatMayBeUsed));
}

void RowFilter::allow(Connection& superuser, const TableSet& tables) const {
  const std::string role = quote_identifier(run_.hidden_name(0));
  const auto names =
      superuser.query(fmt::format("SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), "
                                  " pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_class c "
                                  "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                                  "WHERE c.relkind IN ('r', 'p') AND c.oid IN ({})",
                                  tables.oids),
                      run_.stop());
  for (std::size_t row = 0; row < names.rows(); ++row) {
    superuser.simple_query(
        fmt::format("GRANT USAGE ON SCHEMA {1} TO {2}; GRANT SELECT ON {0} TO {2}",
                    names.text(row, 0), names.text(row, 1), role),
        run_.stop());
  }
  forget_range_estimates(superuser, run_.stop());
  hide_indexes(superuser, fmt::format("c.oid IN ({})", tables.oids), run_.stop());
}

CopyRequest RowFilter::apply(CopyRequest request) const {
  request.source = connect();
  request.source.settings.insert_or_assign("default_transaction_read_only", "on");
  for (auto& table : request.tables) table.source = view(std::to_string(table.oid));
  return request;
}

}  // namespace holdfast::restore
