#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

// The PostgreSQL frontend/backend protocol, version 3.
// Source: PostgreSQL 18 documentation, chapter "Frontend/Backend Protocol", and
// src/include/libpq/{protocol.h,pqcomm.h}.
namespace holdfast::pgwire {

/// A type byte and a length that counts itself but not the type.
inline constexpr std::size_t kHeaderBytes = 5;

/// PostgreSQL's own limit for packets before authentication (MAX_STARTUP_PACKET_LENGTH).
inline constexpr std::uint32_t kMaxStartupBytes = 10'000;
/// PostgreSQL's own limit for password and SASL messages (PG_MAX_AUTH_TOKEN_LENGTH).
inline constexpr std::uint32_t kMaxAuthenticationBytes = 65'535;
/// PostgreSQL's own limit for the other messages of a client (PQ_LARGE_MESSAGE_LIMIT, 1 GB - 1).
inline constexpr std::uint32_t kMaxMessageBytes = 0x3fff'ffff;
/// Longest cancel key secret (protocol 3.2).
inline constexpr std::size_t kMaxSecretBytes = 256;

// The first word of a start-up packet: a protocol version or one of these requests.
inline constexpr std::uint32_t kCancelRequestCode = (1234u << 16) | 5678u;
inline constexpr std::uint32_t kSslRequestCode = (1234u << 16) | 5679u;
inline constexpr std::uint32_t kGssEncryptionRequestCode = (1234u << 16) | 5680u;
inline constexpr std::uint32_t kProtocolMajor = 3;

namespace frontend {
inline constexpr char kBind = 'B';
inline constexpr char kClose = 'C';
inline constexpr char kCopyData = 'd';
inline constexpr char kCopyDone = 'c';
inline constexpr char kCopyFail = 'f';
inline constexpr char kDescribe = 'D';
inline constexpr char kExecute = 'E';
inline constexpr char kFlush = 'H';
inline constexpr char kFunctionCall = 'F';
inline constexpr char kParse = 'P';
inline constexpr char kPassword = 'p';
inline constexpr char kQuery = 'Q';
inline constexpr char kSync = 'S';
inline constexpr char kTerminate = 'X';
}  // namespace frontend

namespace backend {
inline constexpr char kAuthentication = 'R';
inline constexpr char kBackendKeyData = 'K';
inline constexpr char kBindComplete = '2';
inline constexpr char kCloseComplete = '3';
inline constexpr char kCommandComplete = 'C';
inline constexpr char kCopyBothResponse = 'W';
inline constexpr char kCopyInResponse = 'G';
inline constexpr char kDataRow = 'D';
inline constexpr char kEmptyQueryResponse = 'I';
inline constexpr char kErrorResponse = 'E';
inline constexpr char kNegotiateProtocolVersion = 'v';
inline constexpr char kNoData = 'n';
inline constexpr char kNoticeResponse = 'N';
inline constexpr char kNotificationResponse = 'A';
inline constexpr char kParameterDescription = 't';
inline constexpr char kParameterStatus = 'S';
inline constexpr char kParseComplete = '1';
inline constexpr char kPortalSuspended = 's';
inline constexpr char kReadyForQuery = 'Z';
inline constexpr char kRowDescription = 'T';
}  // namespace backend

/// The number in an Authentication message.
enum class AuthenticationRequest : std::uint32_t {
  Ok = 0,
  CleartextPassword = 3,
  Md5Password = 5,
  Gss = 7,
  GssContinue = 8,
  Sspi = 9,
  Sasl = 10,
  SaslContinue = 11,
  SaslFinal = 12,
};

/// What ReadyForQuery says.
namespace transaction {
inline constexpr char kIdle = 'I';
inline constexpr char kOpen = 'T';
inline constexpr char kFailed = 'E';
}  // namespace transaction

/// Type OIDs. Source: PostgreSQL src/include/catalog/pg_type.dat.
namespace oid {
inline constexpr std::uint32_t kUnspecified = 0;
inline constexpr std::uint32_t kBool = 16;
inline constexpr std::uint32_t kBytea = 17;
inline constexpr std::uint32_t kName = 19;
inline constexpr std::uint32_t kInt8 = 20;
inline constexpr std::uint32_t kInt2 = 21;
inline constexpr std::uint32_t kInt4 = 23;
inline constexpr std::uint32_t kText = 25;
inline constexpr std::uint32_t kOid = 26;
inline constexpr std::uint32_t kJson = 114;
inline constexpr std::uint32_t kFloat4 = 700;
inline constexpr std::uint32_t kFloat8 = 701;
inline constexpr std::uint32_t kUnknown = 705;
inline constexpr std::uint32_t kTextArray = 1009;
inline constexpr std::uint32_t kBpchar = 1042;
inline constexpr std::uint32_t kVarchar = 1043;
inline constexpr std::uint32_t kTimestampTz = 1184;
inline constexpr std::uint32_t kNumeric = 1700;
inline constexpr std::uint32_t kJsonb = 3802;
}  // namespace oid

/// Integers travel in network byte order. The bytes must be there.
inline std::uint32_t read_be32(const std::byte* at) {
  std::uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap32(value);
}
inline std::uint16_t read_be16(const std::byte* at) {
  std::uint16_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap16(value);
}

}  // namespace holdfast::pgwire
