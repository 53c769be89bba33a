#pragma once

#include <array>
#include <string_view>

namespace holdfast {

/// A five-character SQLSTATE, as clients of PostgreSQL expect it in an error response.
/// Source: PostgreSQL src/backend/utils/errcodes.txt.
class SqlState {
 public:
  consteval explicit SqlState(std::string_view code) {
    if (code.size() != 5) throw "a SQLSTATE has five characters";
    for (std::size_t i = 0; i < 5; ++i) code_[i] = code[i];
  }
  /// For a code received from a server; anything that is not five characters becomes XX000.
  static SqlState from_server(std::string_view code);

  constexpr std::string_view view() const { return {code_.data(), code_.size()}; }
  friend constexpr bool operator==(const SqlState&, const SqlState&) = default;

 private:
  constexpr SqlState() = default;
  std::array<char, 5> code_{};
};

namespace sqlstate {
inline constexpr SqlState kSuccess{"00000"};
inline constexpr SqlState kWarning{"01000"};
inline constexpr SqlState kConnectionException{"08000"};
inline constexpr SqlState kConnectionFailure{"08006"};
inline constexpr SqlState kProtocolViolation{"08P01"};
inline constexpr SqlState kFeatureNotSupported{"0A000"};
inline constexpr SqlState kInvalidParameterValue{"22023"};
inline constexpr SqlState kInvalidTextRepresentation{"22P02"};
inline constexpr SqlState kActiveSqlTransaction{"25001"};
inline constexpr SqlState kReadOnlySqlTransaction{"25006"};
inline constexpr SqlState kInFailedSqlTransaction{"25P02"};
inline constexpr SqlState kInvalidAuthorization{"28000"};
inline constexpr SqlState kInvalidPassword{"28P01"};
inline constexpr SqlState kInvalidCatalogName{"3D000"};
inline constexpr SqlState kSerializationFailure{"40001"};
inline constexpr SqlState kInsufficientPrivilege{"42501"};
inline constexpr SqlState kSyntaxError{"42601"};
inline constexpr SqlState kUndefinedObject{"42704"};
inline constexpr SqlState kDuplicateObject{"42710"};
inline constexpr SqlState kDuplicateDatabase{"42P04"};
inline constexpr SqlState kDuplicateRelation{"42P07"};
inline constexpr SqlState kUndefinedTable{"42P01"};
inline constexpr SqlState kDiskFull{"53100"};
inline constexpr SqlState kOutOfMemory{"53200"};
inline constexpr SqlState kTooManyConnections{"53300"};
inline constexpr SqlState kObjectNotInPrerequisiteState{"55000"};
inline constexpr SqlState kObjectInUse{"55006"};
inline constexpr SqlState kLockNotAvailable{"55P03"};
inline constexpr SqlState kQueryCanceled{"57014"};
inline constexpr SqlState kAdminShutdown{"57P01"};
inline constexpr SqlState kCannotConnectNow{"57P03"};
inline constexpr SqlState kSystemError{"58000"};
inline constexpr SqlState kIoError{"58030"};
inline constexpr SqlState kUndefinedFile{"58P01"};
inline constexpr SqlState kDuplicateFile{"58P02"};
inline constexpr SqlState kConfigFileError{"F0000"};
inline constexpr SqlState kInternalError{"XX000"};
inline constexpr SqlState kDataCorrupted{"XX001"};
inline constexpr SqlState kIndexCorrupted{"XX002"};
}  // namespace sqlstate

}  // namespace holdfast
