#include "pgwire/values.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "pgwire/protocol.h"

namespace holdfast::pgwire {
namespace {

using sql::ColumnType;
// NOLINTNEXTLINE(misc-unused-using-decls): the check does not see literals.
using std::string_literals::operator""s;

std::string hex(std::string_view bytes) { return to_hex(as_bytes(bytes)); }

// Expected bytes: PostgreSQL 15, `COPY (SELECT …) TO STDOUT (FORMAT binary)`.
TEST(Values, AreEncodedAsPostgresqlSendsThem) {
  EXPECT_EQ(hex(to_binary(ColumnType::Int8, "-2")), "fffffffffffffffe");
  EXPECT_EQ(hex(to_binary(ColumnType::Float8, "0.5")), "3fe0000000000000");
  EXPECT_EQ(hex(to_binary(ColumnType::Bool, "t")), "01");
  EXPECT_EQ(hex(to_binary(ColumnType::Bool, "false")), "00");
  EXPECT_EQ(hex(to_binary(ColumnType::Text, "ä")), "c3a4");
  EXPECT_EQ(hex(to_binary(ColumnType::TimestampTz, "2000-01-01 00:00:01+00")), "00000000000f4240");
  EXPECT_EQ(hex(to_binary(ColumnType::TimestampTz, "1999-12-31 23:59:59+00")), "fffffffffff0bdc0");
  EXPECT_EQ(hex(to_binary(ColumnType::Jsonb, "{}")), "017b7d");
  EXPECT_EQ(hex(to_binary(ColumnType::Bytea, "\\x00ff")), "00ff");
}

TEST(Values, TextArraysKeepQuotesAndNulls) {
  EXPECT_EQ(hex(to_binary(ColumnType::TextArray, "{}")), "000000000000000000000019");
  EXPECT_EQ(hex(to_binary(ColumnType::TextArray, R"({"a\"",NULL,"NULL"})")),
            "000000010000000100000019"
            "0000000300000001"
            "000000026122"
            "ffffffff"
            "000000044e554c4c");
}

TEST(Values, TextThatIsNotOfItsTypeIsAnInternalError) {
  for (const auto& [type, text] : {std::pair{ColumnType::Int8, "1x"},
                                   {ColumnType::Bool, "maybe"},
                                   {ColumnType::TimestampTz, "soon"},
                                   {ColumnType::Bytea, "ff"},
                                   {ColumnType::TextArray, "a"}})
    EXPECT_THROW(to_binary(type, text), Error) << text;
}

TEST(Values, BinaryParametersBecomeText) {
  EXPECT_EQ(parameter_to_text(oid::kInt2, as_bytes("\xff\xff"s)), "-1");
  EXPECT_EQ(parameter_to_text(oid::kInt4, as_bytes("\0\0\1\0"s)), "256");
  EXPECT_EQ(parameter_to_text(oid::kInt8, as_bytes("\0\0\1\0\0\0\0\0"s)), "1099511627776");
  EXPECT_EQ(parameter_to_text(oid::kBool, as_bytes("\1"s)), "true");
  EXPECT_EQ(parameter_to_text(oid::kUnspecified, as_bytes("plain")), "plain");
  EXPECT_THROW(parameter_to_text(oid::kInt8, as_bytes("\0\0\0\1"s)), Error);
  EXPECT_THROW(parameter_to_text(oid::kNumeric, as_bytes("\0\0"s)), Error);
}

}  // namespace
}  // namespace holdfast::pgwire
