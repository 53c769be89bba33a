#include "postgres/catalog.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <iterator>
#include <optional>
#include <set>
#include <tuple>

#include "base/error.h"
#include "base/log.h"
#include "base/worker_pool.h"

namespace holdfast::postgres {
namespace {

/// Shorter than PostgreSQL waits for the last sessions of a database to go (five seconds). Source:
/// PostgreSQL src/backend/storage/ipc/procarray.c (CountOtherDBBackends).
constexpr std::chrono::milliseconds kLongestLockWait{1000};

/// That list databases beside each other.
constexpr std::size_t kSessions = 2;

constexpr std::string_view kKindNames[] = {"database",          "schema",   "table",         "view",
                                           "materialized view", "sequence", "foreign table", "type",
                                           "function"};

// One row for each object and privilege list of one grantee; objects without grants have one row
// with nulls there. The owner's own privileges go without saying. Columns' own privileges are not
// listed.
//
// `objects` has: kind (as ObjectKind), schema name, name, oid, schema oid, size, rows, owner, ACL,
// and how GRANT names the object.
std::string with_grants(std::string_view objects) {
  return fmt::format(
      "WITH objects(kind, schema, name, oid, schema_oid, size, nrows, owner, acl, target) AS ({}) "
      "SELECT o.kind, o.schema, o.name, o.oid, o.schema_oid, o.size, o.nrows, "
      "       pg_catalog.pg_get_userbyid(o.owner), g.statement "
      "FROM objects o LEFT JOIN LATERAL ("
      "  SELECT 'GRANT ' || pg_catalog.string_agg(a.privilege_type, ', ' "
      "                                           ORDER BY a.privilege_type) "
      "         || ' ON ' || o.target || ' TO ' "
      "         || CASE WHEN a.grantee = 0 THEN 'PUBLIC' "
      "            ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END "
      "         || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS statement "
      "  FROM pg_catalog.aclexplode(o.acl) a WHERE a.grantee <> o.owner "
      "  GROUP BY a.grantee, a.is_grantable) g ON true "
      "ORDER BY o.kind, o.oid, g.statement",
      objects);
}

// Not a user's: what initdb made, temporary schemas, and members of extensions.
std::string is_own(std::string_view catalog, std::string_view alias) {
  return fmt::format(
      "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' "
      "AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' "
      "    AND d.classid = 'pg_catalog.{}'::pg_catalog.regclass AND d.objid = {}.oid)",
      catalog, alias);
}

/// What a table takes, with TOAST and indexes. PostgreSQL's function opens each of them, and so
/// waits for whoever has locked it; what the last VACUUM or ANALYZE counted can be had at once.
enum class Sizes { Exact, Counted };

std::string_view size_of_relation(Sizes sizes) {
  if (sizes == Sizes::Exact) return "COALESCE(pg_catalog.pg_total_relation_size(c.oid), 0)";
  return "(SELECT pg_catalog.sum(p.relpages::bigint) "
         "  * pg_catalog.current_setting('block_size')::bigint "
         " FROM pg_catalog.pg_class p WHERE p.oid IN (c.oid, c.reltoastrelid) OR p.oid IN "
         "  (SELECT i.indexrelid FROM pg_catalog.pg_index i "
         "   WHERE i.indrelid IN (c.oid, c.reltoastrelid)))::bigint";
}

std::string objects_query(Sizes sizes) {
  const std::string schemas = fmt::format(
      "SELECT 1, ''::text, n.nspname::text, n.oid, 0::pg_catalog.oid, 0::bigint, (-1)::bigint, "
      "       n.nspowner, n.nspacl, 'SCHEMA ' || pg_catalog.quote_ident(n.nspname) "
      "FROM pg_catalog.pg_namespace n WHERE {}",
      is_own("pg_namespace", "n"));
  // 13 has 0 rows where nobody has counted yet; later versions -1.
  const std::string relations = fmt::format(
      "SELECT CASE c.relkind WHEN 'r' THEN 2 WHEN 'p' THEN 2 WHEN 'v' THEN 3 WHEN 'm' THEN 4 "
      "            WHEN 'S' THEN 5 ELSE 6 END, "
      "       n.nspname::text, c.relname::text, c.oid, n.oid, "
      "       CASE WHEN c.relkind IN ('r', 'm') THEN {} ELSE 0 END, "
      "       CASE WHEN c.relkind NOT IN ('r', 'p', 'm') OR c.reltuples < 0 THEN -1 "
      "            WHEN c.reltuples = 0 AND c.relpages = 0 "
      "             AND pg_catalog.current_setting('server_version_num')::int < 140000 THEN -1 "
      "            ELSE c.reltuples::bigint END, "
      "       c.relowner, c.relacl, "
      "       CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END "
      "       || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) "
      "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
      "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't' AND {}",
      size_of_relation(sizes), is_own("pg_class", "c"));
  const std::string types = fmt::format(
      "SELECT 7, n.nspname::text, t.typname::text, t.oid, n.oid, 0, -1, t.typowner, t.typacl, "
      "       'TYPE ' || pg_catalog.quote_ident(n.nspname) || '.' "
      "       || pg_catalog.quote_ident(t.typname) "
      "FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace "
      "LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid "
      "WHERE (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c')) AND {}",
      is_own("pg_type", "t"));
  const std::string functions = fmt::format(
      "SELECT 8, n.nspname::text, "
      "       p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')', "
      "       p.oid, n.oid, 0, -1, p.proowner, p.proacl, "
      "       CASE p.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END "
      "       || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(p.proname) "
      "       || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' "
      "FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace "
      "WHERE {}",
      is_own("pg_proc", "p"));
  return with_grants(schemas + " UNION ALL " + relations + " UNION ALL " + types + " UNION ALL " +
                     functions);
}

// The size of a database is only for those who may connect to it or see all statistics.
std::string databases_query() {
  return with_grants(
      "SELECT 0, ''::text, d.datname::text, d.oid, 0::pg_catalog.oid, "
      "       CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') "
      "              OR pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') "
      "            THEN COALESCE(pg_catalog.pg_database_size(d.oid), 0) ELSE 0 END, "
      "       (-1)::bigint, d.datdba, d.datacl, 'DATABASE ' || pg_catalog.quote_ident(d.datname) "
      "FROM pg_catalog.pg_database d WHERE d.datname NOT IN ('template0', 'template1')");
}

std::vector<CatalogEntry> read_entries(const QueryResult& result, const std::string& database,
                                       std::uint32_t database_oid) {
  std::vector<CatalogEntry> entries;
  for (std::size_t row = 0; row < result.rows(); ++row) {
    const auto kind = static_cast<ObjectKind>(result.integer(row, 0));
    const auto oid = static_cast<std::uint32_t>(result.integer(row, 3));
    if (entries.empty() || entries.back().kind != kind || entries.back().oid != oid) {
      CatalogEntry entry;
      entry.kind = kind;
      entry.database = database;
      entry.schema = result.text(row, 1);
      entry.name = result.text(row, 2);
      entry.oid = oid;
      entry.database_oid = kind == ObjectKind::Database ? oid : database_oid;
      entry.schema_oid = static_cast<std::uint32_t>(result.integer(row, 4));
      entry.size_bytes = static_cast<std::uint64_t>(result.integer(row, 5));
      entry.rows = result.integer(row, 6);
      entry.owner = result.text(row, 7);
      entries.push_back(std::move(entry));
    }
    if (const auto& grant = result.value(row, 8)) entries.back().grants.push_back(*grant);
  }
  std::sort(entries.begin(), entries.end(), [](const CatalogEntry& a, const CatalogEntry& b) {
    return std::tie(a.kind, a.schema, a.name) < std::tie(b.kind, b.schema, b.name);
  });
  return entries;
}

bool database_exists(Connection& connection, std::uint32_t oid, const Stop& stop) {
  return connection
             .query("SELECT 1 FROM pg_catalog.pg_database WHERE oid = $1::pg_catalog.oid",
                    {std::to_string(oid)}, stop)
             .rows() != 0;
}

// Why a database's content cannot be listed, as far as that is this database's own matter.
bool concerns_one_database(const Error& error) {
  return error.state() == sqlstate::kInvalidCatalogName ||
         error.state() == sqlstate::kInsufficientPrivilege ||
         error.state() == sqlstate::kInvalidAuthorization ||
         error.state() == sqlstate::kTooManyConnections ||
         error.state() == sqlstate::kObjectNotInPrerequisiteState ||
         error.state() == sqlstate::kObjectInUse;
}

}  // namespace

std::string_view to_string(ObjectKind kind) { return kKindNames[static_cast<std::size_t>(kind)]; }

std::vector<CatalogEntry> list_database_objects(Connection& connection, const Stop& stop) {
  const QueryResult own = connection.query(
      "SELECT datname, oid FROM pg_catalog.pg_database "
      "WHERE datname = pg_catalog.current_database()",
      stop);
  // A table may be locked for any time, and while this session waits for it nobody gets the
  // database alone, as DROP DATABASE needs it.
  connection.query(fmt::format("SET lock_timeout = '{}ms'", kLongestLockWait.count()), stop);
  QueryResult objects;
  try {
    objects = connection.query(objects_query(Sizes::Exact), stop);
  } catch (const Error& error) {
    // A standby cancels whoever stands in the way of a lock that it replays.
    if (error.state() != sqlstate::kLockNotAvailable &&
        error.state() != sqlstate::kSerializationFailure) {
      throw;
    }
    log::info("database \"{}\" has locked tables: their sizes are estimates", own.text(0, 0));
    objects = connection.query(objects_query(Sizes::Counted), stop);
  }
  return read_entries(objects, own.text(0, 0), static_cast<std::uint32_t>(own.integer(0, 1)));
}

namespace {

/// What became of listing one database.
struct Attempt {
  std::vector<CatalogEntry> objects;
  std::optional<Error> error;
};

Attempt attempt(const std::function<std::vector<CatalogEntry>()>& list) {
  Attempt made;
  try {
    made.objects = list();
  } catch (const Error& error) {
    made.error = error;
  }
  return made;
}

}  // namespace

CatalogListing list_catalog(const ConnectOptions& connect, const Stop& stop) {
  Connection first = Connection::open(connect, stop);
  auto databases = read_entries(first.query(databases_query(), stop), "", 0);
  const QueryResult facts = first.query(
      "SELECT datname, datallowconn, datname = pg_catalog.current_database() "
      "FROM pg_catalog.pg_database",
      stop);
  std::set<std::string> closed;
  std::string own;
  for (std::size_t row = 0; row < facts.rows(); ++row) {
    if (!facts.boolean(row, 1)) closed.insert(facts.text(row, 0));
    if (facts.boolean(row, 2)) own = facts.text(row, 0);
  }
  const auto list = [&](const std::string& database, const Stop& its_stop) {
    ConnectOptions options = connect;
    options.database = database;
    Connection connection = Connection::open(options, its_stop);
    return list_database_objects(connection, its_stop);
  };

  // Two at a time: a session of its own takes longer to come about than most catalogs to be read.
  std::vector<Attempt> attempts(databases.size());
  std::atomic<std::size_t> next = 0;
  run_workers(std::min<std::size_t>(kSessions, databases.size()), stop,
              [&](std::size_t, const Stop& worker_stop) {
                for (std::size_t i = next++; i < databases.size(); i = next++) {
                  const std::string& name = databases[i].name;
                  if (closed.contains(name)) continue;
                  attempts[i] = attempt([&] {
                    return name == own ? list_database_objects(first, worker_stop)
                                       : list(name, worker_stop);
                  });
                }
              });

  CatalogListing listing;
  for (std::size_t i = 0; i < databases.size(); ++i) {
    const std::string name = databases[i].name;
    // Where there is room for one session only.
    if (attempts[i].error && attempts[i].error->state() == sqlstate::kTooManyConnections) {
      attempts[i] = attempt([&] { return list(name, stop); });
    }
    if (const auto& error = attempts[i].error) {
      // A database that is dropped ends its sessions too; then it has no place in the list.
      if (!database_exists(first, databases[i].oid, stop)) continue;
      if (!concerns_one_database(*error)) throw Error(*error);
      listing.unlisted.push_back({name, error->message()});
    } else if (closed.contains(name)) {
      listing.unlisted.push_back({name, "it does not allow connections"});
    }
    listing.entries.push_back(std::move(databases[i]));
    std::ranges::move(attempts[i].objects, std::back_inserter(listing.entries));
  }
  return listing;
}

}  // namespace holdfast::postgres
