#include "backup/read_error.h"

#include <fmt/core.h>

#include <cerrno>
#include <string>
#include <utility>

#include "base/error.h"

namespace holdfast::backup {

void throw_unreadable(std::string_view action, std::string_view path, int error_number) {
  try {
    throw_errno(fmt::format("{} \"{}\"", action, path), error_number);
  } catch (Error& error) {
    if (error_number == EACCES || error_number == EPERM) {
      error.hint(
          "holdfast must run as the operating-system user that owns the data directory, and every "
          "file in it must be readable for that user. Correct the file's owner or mode, or move it "
          "out of the data directory, and resume the job.");
    } else if (error_number == EIO) {
      error.hint("The storage device reports a read error. Check the system log.");
    }
    throw;
  }
}

}  // namespace holdfast::backup
