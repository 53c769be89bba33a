#include "restore/relation_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/mutex.h"
#include "base/worker_pool.h"
#include "postgres/copy_stream.h"
#include "restore/prepared_transactions.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;

constexpr std::size_t kMostDamageListed = 10;
/// Source: PostgreSQL doc/src/sgml/amcheck.sgml (verify_heapam since 14, checkunique since 17).
constexpr int kChecksTables = 14;
constexpr int kChecksUnique = 17;

struct Relation {
  std::string oid;
  std::string kind;  ///< pg_class.relkind
  std::string name;  ///< for messages: table "bank.public.accounts"
  std::string sql_name;
  std::int64_t bytes = 0;
  bool has_check = true;
  bool runs_code = false;  ///< an index with expressions or a predicate
};

bool is_index(const Relation& relation) { return relation.kind == "i"; }

/// Whether an error tells about the relation. Lack of room, a lost connection and a stop do not.
bool tells_about_relation(const Error& error) {
  const std::string_view state = error.state().view();
  return !state.starts_with("08") && !state.starts_with("53") && !state.starts_with("57");
}

/// Whether it is PostgreSQL who says that data is wrong, and not a function of a user's.
bool tells_of_damage(const Error& error) {
  const std::string_view state = error.state().view();
  return state.starts_with("XX") || state.starts_with("58");
}

/// Whether the code of an extension is missing on this host. (A missing file of data cannot be
/// opened; the workshop's messages are not translated.)
bool lacks_library(const Error& error) {
  return error.state() == sqlstate::kUndefinedFile &&
         error.message().starts_with("could not access file");
}

std::string text_of(const Error& error) {
  return error.detail().empty() ? error.message()
                                : fmt::format("{} ({})", error.message(), error.detail());
}

std::string describe_problem(const postgres::QueryResult& found, std::size_t row,
                             const std::string& database) {
  const bool index = found.text(row, 1) == "i";
  const bool toast = found.value(row, 7).has_value();
  std::string_view kind = index ? "index" : "table";
  if (found.text(row, 1) == "m") kind = "materialized view";
  if (found.text(row, 1) == "S") kind = "sequence";
  if (!toast) {
    return fmt::format("{} \"{}.{}.{}\"", kind, database, found.text(row, 5), found.text(row, 6));
  }
  return fmt::format("TOAST {} of \"{}.{}.{}\"", kind, database, found.text(row, 7),
                     found.text(row, 8));
}

/// Those of one database that have storage; shared ones only where they are asked for. `parts` as
/// in CheckedDatabase.
std::vector<Relation> list_relations(Connection& connection, const std::string& database,
                                     bool with_shared, const std::set<std::uint32_t>& parts,
                                     const Stop& stop) {
  const auto found = connection.query(
      // What a backup of tables does not hold: the values of statistics, and large objects.
      "WITH absent AS (SELECT unnest(ARRAY['pg_catalog.pg_statistic'::regclass, "
      "  'pg_catalog.pg_statistic_ext_data'::regclass, "
      "  'pg_catalog.pg_largeobject'::regclass])::oid AS oid), "
      "toasted AS (SELECT oid FROM absent UNION SELECT c.reltoastrelid FROM absent "
      "  JOIN pg_catalog.pg_class c ON c.oid = absent.oid), "
      "blank AS (SELECT oid FROM toasted UNION SELECT i.indexrelid FROM toasted "
      "  JOIN pg_catalog.pg_index i ON i.indrelid = toasted.oid) "
      "SELECT c.oid, c.relkind, pg_catalog.pg_relation_size(c.oid), am.amname, "
      " COALESCE(i.indexprs IS NOT NULL OR i.indpred IS NOT NULL, false), n.nspname, c.relname, "
      " tn.nspname, t.relname, "
      " pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) "
      "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
      "LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam "
      "LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid "
      "LEFT JOIN pg_catalog.pg_class t ON t.reltoastrelid = COALESCE(i.indrelid, c.oid) "
      "LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace "
      // Temporary tables have no files in a backup; what CREATE INDEX CONCURRENTLY left
      // unfinished need not be right.
      "WHERE c.relpersistence <> 't' AND c.relkind IN ('r', 'm', 't', 'i', 'S') "
      "AND (NOT c.relisshared OR $1::boolean) "
      "AND (i.indexrelid IS NULL OR (i.indisready AND i.indisvalid AND i.indislive)) "
      "AND ($2::text = '{}' OR c.relisshared OR c.oid = ANY ($2::text::oid[]) "
      " OR (c.oid < 16384 AND c.oid NOT IN (SELECT oid FROM blank))) "
      "ORDER BY 3 DESC, 1",
      {with_shared ? "true" : "false", fmt::format("{{{}}}", fmt::join(parts, ","))}, stop);
  std::vector<Relation> relations;
  for (std::size_t row = 0; row < found.rows(); ++row) {
    const std::string kind = found.text(row, 1);
    const std::string method = found.text(row, 3);
    relations.push_back({.oid = found.text(row, 0),
                         .kind = kind,
                         .name = describe_problem(found, row, database),
                         .sql_name = found.text(row, 9),
                         .bytes = found.integer(row, 2),
                         .has_check = kind == "S" || method == (kind == "i" ? "btree" : "heap"),
                         .runs_code = found.boolean(row, 4)});
  }
  return relations;
}

/// The functions of amcheck under names of our own: what the backup's extension amcheck looks like,
/// if it has one, does not matter.
/// Source of the signatures: PostgreSQL contrib/amcheck/amcheck--1.1--1.2.sql, --1.2--1.3.sql,
/// --1.3--1.4.sql.
void make_functions(Connection& connection, int major, const Stop& stop) {
  std::string sql = fmt::format(
      "CREATE FUNCTION pg_temp.check_index(pg_catalog.regclass, boolean, boolean{}) "
      "RETURNS pg_catalog.void AS '$libdir/amcheck', 'bt_index_parent_check' LANGUAGE C STRICT;",
      major >= kChecksUnique ? ", boolean" : "");
  if (major >= kChecksTables) {
    sql +=
        "CREATE FUNCTION pg_temp.check_table(pg_catalog.regclass, boolean, boolean, "
        "pg_catalog.text, bigint, bigint, OUT blkno bigint, OUT offnum integer, "
        "OUT attnum integer, OUT msg pg_catalog.text) RETURNS SETOF pg_catalog.record "
        "AS '$libdir/amcheck', 'verify_heapam' LANGUAGE C";
  }
  try {
    connection.simple_query(sql, stop);
  } catch (Error& error) {
    if (error.state() != sqlstate::kUndefinedFile) throw;
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("could not find amcheck of PostgreSQL {}", major))
        .detail(error.message())
        .hint("Install PostgreSQL's additional modules (contrib) of that version.");
  }
}

struct Verdict {
  bool checked = true;
  std::string damage{};  ///< what is wrong with it; empty: nothing
};

/// A worker's session in one database.
class Checker {
 public:
  Checker(Workshop& workshop, const std::string& database, jobs::JobContext& job, const Stop& stop)
      : connection_(Connection::open(workshop.connect(database), stop)),
        major_(workshop.major()),
        job_(job),
        stop_(stop) {
    make_functions(connection_, major_, stop_);
  }

  Verdict check(const Relation& relation) {
    try {
      if (is_index(relation)) {
        check_index(relation);
      } else if (relation.kind == "S") {
        connection_.query("SELECT last_value FROM " + relation.sql_name, stop_);
      } else {
        return {.damage = check_table(relation)};
      }
      return {};
    } catch (Error& error) {
      if (!tells_about_relation(error)) throw error.at(relation.name);
      if (lacks_library(error)) {
        job_.notice(fmt::format("{} was not checked: {}", relation.name, error.message()));
        return {.checked = false};
      }
      return {.damage = fmt::format("{}: {}", relation.name, text_of(error))};
    }
  }

 private:
  std::string check_table(const Relation& relation) {
    if (major_ < kChecksTables) {
      // TOAST tables are read with their tables.
      if (relation.kind != "t") {
        postgres::copy_and_discard(
            connection_, fmt::format("COPY (SELECT * FROM ONLY {}) TO STDOUT", relation.sql_name),
            [](std::uint64_t) {}, stop_);
      }
      return {};
    }
    // It goes no further than the first block in which something is wrong.
    const auto found = connection_.query(
        "SELECT blkno, offnum, attnum, msg FROM pg_temp.check_table("
        "$1::pg_catalog.oid::pg_catalog.regclass, true, true, 'none', NULL, NULL) LIMIT 1",
        {relation.oid}, stop_);
    if (found.rows() == 0) return {};
    std::string place = fmt::format("block {}", found.text(0, 0));
    if (found.value(0, 1)) place += fmt::format(", offset {}", found.text(0, 1));
    if (found.value(0, 2)) place += fmt::format(", attribute {}", found.text(0, 2));
    return fmt::format("{}, {}: {}", relation.name, place, found.text(0, 3));
  }

  void run_index_check(const Relation& relation, bool with_rows) {
    connection_.query(
        fmt::format("SELECT pg_temp.check_index($1::pg_catalog.oid::pg_catalog.regclass, "
                    "$2::boolean, false{})",
                    major_ >= kChecksUnique ? ", $2::boolean" : ""),
        {relation.oid, with_rows ? "true" : "false"}, stop_);
  }

  void check_index(const Relation& relation) {
    try {
      run_index_check(relation, true);
    } catch (const Error& error) {
      if (!relation.runs_code || !tells_about_relation(error) || tells_of_damage(error)) throw;
      // A function of a user's that cannot do here what it did there says nothing about the data.
      run_index_check(relation, false);
      job_.notice(
          fmt::format("{} was checked without its rows, because a function in it failed: "
                      "{}",
                      relation.name, error.message()));
    }
  }

  Connection connection_;
  const int major_;
  jobs::JobContext& job_;
  const Stop& stop_;
};

struct Database {
  std::string name;
  std::vector<Relation> relations;
};

class Run {
 public:
  Run(Workshop& workshop, const std::vector<CheckedDatabase>& only, std::size_t workers,
      jobs::JobContext& job)
      : workshop_(workshop), only_(only), workers_(workers), job_(job) {}

  RelationChecks run(const std::string& database) {
    const auto databases = list(database);
    for (const auto& one : databases) check_all(one);
    const MutexLock lock(mutex_);
    result_.databases = static_cast<std::int64_t>(databases.size());
    return std::move(result_);
  }

 private:
  const Stop& stop() const { return job_.stop(); }

  std::vector<Database> list(const std::string& first) {
    std::vector<std::pair<std::string, const CheckedDatabase*>> names;
    {
      Connection connection = workshop_.open(first, stop());
      connection.simple_query(
          "UPDATE pg_catalog.pg_database SET datallowconn = true WHERE NOT datallowconn", stop());
      // -2: DROP DATABASE was interrupted, and nothing of it is to be used any more.
      // Source: PostgreSQL src/include/catalog/pg_database.h (DATCONNLIMIT_INVALID_DB).
      const auto found = connection.query(
          "SELECT datname, oid FROM pg_catalog.pg_database WHERE datconnlimit <> -2 ORDER BY 1",
          stop());
      for (std::size_t row = 0; row < found.rows(); ++row) {
        const auto one = std::ranges::find(only_, static_cast<std::uint32_t>(found.integer(row, 1)),
                                           &CheckedDatabase::oid);
        if (!only_.empty() && one == only_.end()) continue;
        names.emplace_back(found.text(row, 0), one != only_.end() ? &*one : nullptr);
      }
    }
    std::vector<Database> databases;
    for (const auto& [name, part] : names) {
      Database& database = databases.emplace_back(Database{.name = name, .relations = {}});
      try {
        Connection connection = workshop_.open(name, stop());
        release_prepared(connection, stop());
        database.relations =
            list_relations(connection, name, databases.size() == 1,
                           part != nullptr ? part->relations : std::set<std::uint32_t>(), stop());
      } catch (const Error& error) {
        if (!tells_of_damage(error)) throw;
        add_damage(fmt::format("catalogs of database \"{}\": {}", name, text_of(error)));
      }
      for (const auto& relation : database.relations) {
        if (relation.has_check) total_ += static_cast<std::uint64_t>(relation.bytes);
      }
    }
    return databases;
  }

  void check_all(const Database& database) {
    std::atomic<std::size_t> next = 0;
    const std::size_t workers = std::clamp<std::size_t>(database.relations.size(), 1, workers_);
    run_workers(workers, stop(), [&](std::size_t, const Stop& worker_stop) {
      std::optional<Checker> checker;
      for (std::size_t i = next++; i < database.relations.size(); i = next++) {
        const Relation& relation = database.relations[i];
        worker_stop.check();
        job_.pause_point("verify.relation");
        Verdict verdict{.checked = relation.has_check};
        if (relation.has_check) {
          if (!checker) checker.emplace(workshop_, database.name, job_, worker_stop);
          verdict = checker->check(relation);
        }
        if (!verdict.damage.empty()) add_damage(std::move(verdict.damage));
        count(relation, verdict.checked);
      }
    });
  }

  void count(const Relation& relation, bool checked) {
    std::uint64_t done = 0;
    {
      const MutexLock lock(mutex_);
      if (!checked) {
        ++result_.unchecked;
        return;
      }
      result_.bytes += relation.bytes;
      if (is_index(relation)) {
        ++result_.indexes;
      } else if (relation.kind != "S") {
        ++result_.tables;
      }
      done = static_cast<std::uint64_t>(result_.bytes);
    }
    job_.report({.bytes_done = done, .bytes_total = total_, .phase = "checking relations"});
  }

  void add_damage(std::string text) {
    const MutexLock lock(mutex_);
    ++result_.damaged;
    if (result_.damage.size() < kMostDamageListed) result_.damage.push_back(std::move(text));
  }

  Workshop& workshop_;
  const std::vector<CheckedDatabase>& only_;
  const std::size_t workers_;
  jobs::JobContext& job_;
  std::uint64_t total_ = 0;
  Mutex mutex_;
  RelationChecks result_ HF_GUARDED_BY(mutex_);
};

}  // namespace

RelationChecks check_relations(Workshop& workshop, const std::string& database,
                               const std::vector<CheckedDatabase>& only, std::size_t workers,
                               jobs::JobContext& job) {
  return Run(workshop, only, workers, job).run(database);
}

}  // namespace holdfast::restore
