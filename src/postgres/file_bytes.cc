#include "postgres/file_bytes.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"
#include "base/unique_fd.h"

namespace holdfast::postgres {

std::optional<std::string> read_small_file(const std::filesystem::path& path, std::uint64_t limit) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    throw_errno(fmt::format("open file \"{}\"", path.string()));
  }
  // Files in /proc tell no size, so read until the end.
  std::string content;
  char buffer[16384];
  while (true) {
    const ssize_t got = ::read(file.get(), buffer, sizeof buffer);
    if (got < 0) {
      if (errno == EINTR) continue;
      throw_errno(fmt::format("read file \"{}\"", path.string()));
    }
    if (got == 0) return content;
    content.append(buffer, static_cast<std::size_t>(got));
    if (content.size() > limit) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("file \"{}\" is larger than {} bytes", path.string(), limit));
    }
  }
}

}  // namespace holdfast::postgres
