#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace holdfast::restore {

/// A line of "pg_restore --list": "217; 1259 16400 INDEX public events_at postgres". Line breaks in
/// names are replaced there.
/// Source: PostgreSQL src/bin/pg_dump/pg_backup_archiver.c (PrintTOCSummary).
struct DumpEntry {
  std::string_view line;      ///< with its line break
  std::uint32_t catalog = 0;  ///< OID of the catalog that the object is in; 0: it has none
  std::uint32_t object = 0;   ///< its OID in the database that was dumped
  std::string_view what;      ///< "INDEX public events_at postgres"
};

/// The entries of the list, which the views point into, in its order.
std::vector<DumpEntry> parse_dump_list(std::string_view list);

}  // namespace holdfast::restore
