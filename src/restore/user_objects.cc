#include "restore/user_objects.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/error.h"
#include "postgres/catalog.h"

namespace holdfast::restore {
namespace {

/// Source: CockroachDB's full cluster restore lists this many.
constexpr std::size_t kListed = 20;

std::string full_name(std::string_view database, const postgres::CatalogEntry& entry) {
  return entry.schema.empty() ? fmt::format("{}.{}", database, entry.name)
                              : fmt::format("{}.{}.{}", database, entry.schema, entry.name);
}

}  // namespace

std::vector<std::string> user_objects(const postgres::ConnectOptions& connect, const Stop& stop) {
  std::vector<std::string> names;
  std::vector<std::string> look_inside;
  {
    postgres::Connection connection = postgres::Connection::open(connect, stop);
    const postgres::QueryResult databases = connection.query(
        "SELECT datname, datname IN ('postgres', 'template0', 'template1'), datallowconn"
        " FROM pg_catalog.pg_database ORDER BY datname",
        stop);
    for (std::size_t row = 0; row < databases.rows(); ++row) {
      if (!databases.boolean(row, 1)) {
        names.push_back(databases.text(row, 0));
      } else if (databases.boolean(row, 2)) {
        look_inside.push_back(databases.text(row, 0));
      }
    }
  }
  for (const std::string& database : look_inside) {
    postgres::ConnectOptions options = connect;
    options.database = database;
    postgres::Connection connection = postgres::Connection::open(options, stop);
    for (const auto& entry : postgres::list_database_objects(connection, stop)) {
      if (entry.kind == postgres::ObjectKind::Schema && entry.name == "public") continue;
      names.push_back(full_name(database, entry));
    }
  }
  return names;
}

void require_no_user_objects(const std::vector<std::string>& objects) {
  if (objects.empty()) return;
  const std::span<const std::string> listed(objects.data(), std::min(objects.size(), kListed));
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("full cluster restore can only be run on a cluster with no tables or "
                          "databases but found {} descriptors: {}",
                          objects.size(), fmt::join(listed, ", ")))
      .hint("Drop them, or restore beside the running cluster with option data_directory.");
}

}  // namespace holdfast::restore
