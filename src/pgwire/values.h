#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "sql/row_sink.h"

namespace holdfast::pgwire {

inline constexpr std::uint16_t kTextFormat = 0;
inline constexpr std::uint16_t kBinaryFormat = 1;

struct TypeInfo {
  std::uint32_t oid = 0;
  std::int16_t size = -1;  ///< bytes; -1 for variable length
};
TypeInfo type_info(sql::ColumnType type);
/// The column type for the result of a query on PostgreSQL; Text for all types but those that our
/// own statements know.
sql::ColumnType column_type(std::uint32_t type_oid);

/// The format code that applies to column `i`: none given means text, one given applies to all.
inline std::uint16_t format_of(std::span<const std::uint16_t> formats, std::size_t i) {
  if (formats.empty()) return kTextFormat;
  return formats.size() == 1 ? formats[0] : formats[i];
}

/// PostgreSQL's binary form (typsend) of a value in text form. Throws Error with kInternalError
/// when the text is not of the type: our statements make these values.
std::string to_binary(sql::ColumnType type, std::string_view text);

/// The text form of a bound parameter that came in binary form. Throws Error with
/// kFeatureNotSupported for types other than integers, booleans, float8 and strings, and with
/// kInvalidTextRepresentation when the length is not the type's.
std::string parameter_to_text(std::uint32_t type_oid, ByteView binary);

}  // namespace holdfast::pgwire
