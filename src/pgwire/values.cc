#include "pgwire/values.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <cstring>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "pgwire/message_writer.h"
#include "pgwire/protocol.h"

namespace holdfast::pgwire {

namespace {

/// Binary timestamps count microseconds from 2000-01-01 00:00 UTC.
/// Source: PostgreSQL src/include/datatype/timestamp.h (POSTGRES_EPOCH_JDATE).
constexpr std::chrono::microseconds kPostgresEpoch = std::chrono::seconds(946'684'800);

[[noreturn]] void throw_not_of_type(std::string_view type, std::string_view text) {
  throw Error(sqlstate::kInternalError,
              fmt::format("result value \"{}\" is not of type {}", text, type));
}

std::string big_endian(std::uint64_t value) {
  value = __builtin_bswap64(value);
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

template <typename T>
T parse_number(std::string_view type, std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) throw_not_of_type(type, text);
  return value;
}

/// The elements of a one-dimensional array in text form, such as {a,"b c",NULL}.
std::vector<sql::Value> parse_text_array(std::string_view text) {
  if (text.size() < 2 || text.front() != '{' || text.back() != '}')
    throw_not_of_type("text[]", text);
  const std::string_view inside = text.substr(1, text.size() - 2);
  std::vector<sql::Value> elements;
  std::size_t i = 0;
  while (i < inside.size()) {
    std::string element;
    const bool quoted = inside[i] == '"';
    if (quoted) ++i;
    while (i < inside.size() && inside[i] != (quoted ? '"' : ',')) {
      if (inside[i] == '\\' && i + 1 < inside.size()) ++i;
      element.push_back(inside[i++]);
    }
    if (quoted) ++i;  // the closing quote
    if (i < inside.size() && inside[i] != ',') throw_not_of_type("text[]", text);
    ++i;
    if (!quoted && element == "NULL") {
      elements.emplace_back(std::nullopt);
    } else {
      elements.emplace_back(std::move(element));
    }
  }
  return elements;
}

/// Source: PostgreSQL src/backend/utils/adt/arrayfuncs.c (array_send).
std::string text_array_to_binary(std::string_view text) {
  const std::vector<sql::Value> elements = parse_text_array(text);
  MessageWriter out;
  out.u32(elements.empty() ? 0 : 1);  // dimensions
  bool has_null = false;
  for (const sql::Value& element : elements) has_null = has_null || !element;
  out.u32(has_null ? 1 : 0);
  out.u32(oid::kText);
  if (!elements.empty()) {
    out.u32(static_cast<std::uint32_t>(elements.size()));
    out.u32(1);  // lower bound
  }
  for (const sql::Value& element : elements) {
    out.u32(element ? static_cast<std::uint32_t>(element->size()) : 0xffff'ffff);
    if (element) out.bytes(as_bytes(*element));
  }
  return std::string(as_text(out.view()));
}

std::string bytea_to_binary(std::string_view text) {
  if (!text.starts_with("\\x")) throw_not_of_type("bytea", text);
  const auto bytes = from_hex(text.substr(2));
  if (!bytes) throw_not_of_type("bytea", text);
  return std::string(as_text(*bytes));
}

std::string timestamp_to_binary(std::string_view text) {
  const auto time = parse_timestamp(text);
  if (!time) throw_not_of_type("timestamptz", text);
  return big_endian(
      static_cast<std::uint64_t>((time->time_since_epoch() - kPostgresEpoch).count()));
}

std::uint64_t sized_integer(ByteView binary, std::size_t size) {
  if (binary.size() != size)
    throw Error(sqlstate::kInvalidTextRepresentation, "incorrect binary data format in parameter");
  std::uint64_t value = 0;
  for (std::byte b : binary) value = value << 8 | std::to_integer<std::uint64_t>(b);
  return value;
}

}  // namespace

TypeInfo type_info(sql::ColumnType type) {
  switch (type) {
    case sql::ColumnType::Int8:
      return {oid::kInt8, 8};
    case sql::ColumnType::Float8:
      return {oid::kFloat8, 8};
    case sql::ColumnType::Text:
      return {oid::kText, -1};
    case sql::ColumnType::Bool:
      return {oid::kBool, 1};
    case sql::ColumnType::TimestampTz:
      return {oid::kTimestampTz, 8};
    case sql::ColumnType::Jsonb:
      return {oid::kJsonb, -1};
    case sql::ColumnType::Bytea:
      return {oid::kBytea, -1};
    case sql::ColumnType::TextArray:
      return {oid::kTextArray, -1};
  }
  return {oid::kText, -1};
}

sql::ColumnType column_type(std::uint32_t type_oid) {
  switch (type_oid) {
    case oid::kInt2:
    case oid::kInt4:
    case oid::kInt8:
      return sql::ColumnType::Int8;
    case oid::kFloat4:
    case oid::kFloat8:
      return sql::ColumnType::Float8;
    case oid::kBool:
      return sql::ColumnType::Bool;
    case oid::kTimestampTz:
      return sql::ColumnType::TimestampTz;
    case oid::kJsonb:
      return sql::ColumnType::Jsonb;
    case oid::kBytea:
      return sql::ColumnType::Bytea;
    case oid::kTextArray:
      return sql::ColumnType::TextArray;
    default:
      return sql::ColumnType::Text;
  }
}

std::string to_binary(sql::ColumnType type, std::string_view text) {
  switch (type) {
    case sql::ColumnType::Int8:
      return big_endian(static_cast<std::uint64_t>(parse_number<std::int64_t>("bigint", text)));
    case sql::ColumnType::Float8:
      return big_endian(
          std::bit_cast<std::uint64_t>(parse_number<double>("double precision", text)));
    case sql::ColumnType::Bool:
      if (text != "t" && text != "f" && text != "true" && text != "false")
        throw_not_of_type("boolean", text);
      return std::string(1, text.front() == 't' ? '\1' : '\0');
    case sql::ColumnType::TimestampTz:
      return timestamp_to_binary(text);
    case sql::ColumnType::Jsonb:
      return std::string("\1").append(text);  // the format's version comes first
    case sql::ColumnType::Bytea:
      return bytea_to_binary(text);
    case sql::ColumnType::TextArray:
      return text_array_to_binary(text);
    case sql::ColumnType::Text:
      break;
  }
  return std::string(text);
}

std::string parameter_to_text(std::uint32_t type_oid, ByteView binary) {
  switch (type_oid) {
    case oid::kUnspecified:
    case oid::kText:
    case oid::kUnknown:
    case oid::kVarchar:
    case oid::kBpchar:
    case oid::kName:
    case oid::kJson:
      return std::string(as_text(binary));
    case oid::kInt2:
      return std::to_string(static_cast<std::int16_t>(sized_integer(binary, 2)));
    case oid::kInt4:
      return std::to_string(static_cast<std::int32_t>(sized_integer(binary, 4)));
    case oid::kOid:
      return std::to_string(sized_integer(binary, 4));
    case oid::kInt8:
      return std::to_string(static_cast<std::int64_t>(sized_integer(binary, 8)));
    case oid::kFloat8:
      return fmt::format("{}", std::bit_cast<double>(sized_integer(binary, 8)));
    case oid::kBool:
      return sized_integer(binary, 1) != 0 ? "true" : "false";
    default:
      throw Error(
          sqlstate::kFeatureNotSupported,
          fmt::format("parameter of type OID {} in binary format is not supported", type_oid))
          .hint("Pass the parameter as text.");
  }
}

}  // namespace holdfast::pgwire
