#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/stop.h"
#include "postgres/connection.h"

namespace holdfast::postgres {

enum class ObjectKind {
  Database,
  Schema,
  Table,  ///< also partitioned ones
  View,
  MaterializedView,
  Sequence,
  ForeignTable,
  Type,  ///< enum, domain, range, or a composite type of its own
  Function
};
/// "table", "materialized view", …
std::string_view to_string(ObjectKind kind);

/// One object of the catalog listing; names are as in the catalog, unquoted.
struct CatalogEntry {
  ObjectKind kind = ObjectKind::Table;
  std::string database;  ///< empty for a database itself
  std::string schema;    ///< empty for databases and schemas
  /// Functions: with argument types, "area(integer, text)".
  std::string name;
  std::uint32_t oid = 0;
  std::uint32_t database_oid = 0;
  std::uint32_t schema_oid = 0;  ///< 0 for databases and schemas
  std::uint64_t size_bytes = 0;  ///< tables and materialized views: with TOAST and indexes
  std::int64_t rows = -1;        ///< estimate; -1: unknown or no rows to count
  std::string owner;
  std::vector<std::string> grants;  ///< GRANT statements, without semicolon
};

struct CatalogListing {
  std::vector<CatalogEntry> entries;
  /// Databases whose content could not be listed, each with the reason ("does not allow
  /// connections").
  struct Unlisted {
    std::string database;
    std::string reason;
  };
  std::vector<Unlisted> unlisted;
};

/// Lists all databases but template0 and template1 as they are now, ordered by database, kind,
/// schema, name; with the user's objects of each: what initdb made and what belongs to an extension
/// is left out. A database that disappears meanwhile is left out too. `connect` is changed only in
/// its database. Throws Error when the server itself fails, Stopped.
CatalogListing list_catalog(const ConnectOptions& connect, const Stop& stop);

/// The user's objects of the connected database (without the database entry itself).
std::vector<CatalogEntry> list_database_objects(Connection& connection, const Stop& stop);

}  // namespace holdfast::postgres
