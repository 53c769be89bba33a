#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace holdfast::postgres {

/// The relfilenodes of mapped catalogs, by OID, from the bytes of a pg_filenode.map. Throws
/// kDataCorrupted when its checksum is wrong.
/// Source: PostgreSQL src/backend/utils/cache/relmapper.c (RelMapFile).
std::map<std::uint32_t, std::uint32_t> parse_relation_map(ByteView bytes, int major);

/// What the catalogs say without a server that reads them, from the pages of their files. Every
/// version of a row that lies there is given, whether it was ever committed or not, so that callers
/// must want a superset. A page that makes no sense is passed over: it is being rewritten.

struct ClassRow {
  std::uint32_t oid = 0;
  std::uint32_t schema = 0;  ///< OID
  std::uint32_t file = 0;    ///< relfilenode; 0 for mapped relations and those without storage
  char kind = 0;             ///< relkind
  std::string_view name;     ///< in the pages
};
/// Source: PostgreSQL src/include/catalog/pg_class.h, 13 to 18.
void scan_pg_class(ByteView pages, int major, const std::function<void(const ClassRow&)>& visit);

struct InheritsRow {
  std::uint32_t child = 0;
  std::uint32_t parent = 0;
};
/// Source: PostgreSQL src/include/catalog/pg_inherits.h, 13 to 18.
void scan_pg_inherits(ByteView pages, const std::function<void(const InheritsRow&)>& visit);

struct RoleRow {
  std::uint32_t oid = 0;
  std::string name;
};
/// Source: PostgreSQL src/include/catalog/pg_authid.h, 13 to 18.
void scan_pg_authid(ByteView pages, const std::function<void(const RoleRow&)>& visit);

/// The table whose TOAST table or index has this name; users can give it to others.
/// Source: PostgreSQL src/backend/catalog/toasting.c (create_toast_table).
std::optional<std::uint32_t> toasted_table(std::string_view name);

}  // namespace holdfast::postgres
