#include "base/error.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace holdfast {

namespace {

SqlState state_for(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return sqlstate::kDiskFull;
    case ENOENT:
    case ENOTDIR:
      return sqlstate::kUndefinedFile;
    case EACCES:
    case EPERM:
    case EROFS:
      return sqlstate::kInsufficientPrivilege;
    case EEXIST:
    case ENOTEMPTY:
      return sqlstate::kDuplicateFile;
    case ENOMEM:
      return sqlstate::kOutOfMemory;
    default:
      return sqlstate::kIoError;
  }
}

}  // namespace

SqlState SqlState::from_server(std::string_view code) {
  if (code.size() != 5) return sqlstate::kInternalError;
  SqlState state;
  for (std::size_t i = 0; i < 5; ++i) state.code_[i] = code[i];
  return state;
}

Error& Error::at(std::string_view place) & {
  message_ = fmt::format("{}: {}", place, message_);
  return *this;
}

void throw_errno(std::string_view action, int error_number) {
  const SqlState state = state_for(error_number);
  std::string message =
      fmt::format("could not {}: {}", action, std::system_category().message(error_number));
  if (state == sqlstate::kDiskFull) {
    throw Error(state, std::move(message))
        .hint(
            "Free some space on the device and try again; a paused job keeps what it has "
            "finished.");
  }
  throw Error(state, std::move(message));
}

void throw_errno(std::string_view action) { throw_errno(action, errno); }

}  // namespace holdfast
