#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/stop.h"
#include "manifest.pb.h"
#include "storage/object_store.h"

namespace holdfast::restore {

/// What a workshop outside of a job needs. Everything outlives the call.
struct WorkshopServices {
  /// Directories of PostgreSQL programs that the user named, and the live server's.
  std::function<std::vector<std::filesystem::path>(const Stop& stop)> programs{};
  /// The directory below which workshops are.
  std::string root{};
};

/// A row of a system catalog, by the OIDs of the catalog and of the row.
struct CatalogRow {
  std::uint32_t catalog = 0;
  std::uint32_t oid = 0;
  friend constexpr auto operator<=>(const CatalogRow&, const CatalogRow&) = default;
};
using Definitions = std::map<CatalogRow, std::string>;

/// Where a layer's object is a row, by what the manifest has as its type: "table", "function".
CatalogRow row_of(const collection::proto::CatalogObject& object);

/// The statements that make the objects of a layer, as pg_dump words them: of each database,
/// schema, type, function, table (with defaults, indexes, constraints, triggers, rules, policies
/// and statistics objects), view and sequence. Without owners, privileges and comments. Of what
/// belongs to an extension, or is in every database anyway, there are none.
///
/// Recovers the catalogs of each database of the layer in a workshop, one after the other.
/// Keyed by the database's OID; the database's own statement is among them.
std::map<std::uint32_t, Definitions> read_definitions(const WorkshopServices& services,
                                                      storage::ObjectStore& store,
                                                      const collection::proto::Manifest& layer,
                                                      const Stop& stop);

/// An entry of pg_restore's list: "217; 1259 16385 TABLE public accounts alice".
struct ListEntry {
  CatalogRow row;         ///< zeros: of none
  std::string_view rest;  ///< type, schema, name, owner
};
/// Those of what "pg_restore --list" printed, in order. Views into `list`.
std::vector<ListEntry> parse_list(std::string_view list);

/// What pg_restore printed as a script for each of `entries`, in their order; empty for one that is
/// not found. Each begins with a comment that names it, which is left out here.
std::vector<std::string> split_script(std::string_view script,
                                      const std::vector<ListEntry>& entries);

}  // namespace holdfast::restore
