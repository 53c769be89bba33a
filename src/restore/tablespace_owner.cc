#include "restore/tablespace_owner.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/unique_fd.h"
#include "io/file.h"
#include "postgres/instance.h"
#include "restore/marker.h"

namespace holdfast::restore {
namespace {

std::string links_of(const std::string& data_directory) { return data_directory + "/pg_tblspc"; }

/// The data directory of a server that runs and has a tablespace at the location. A server's
/// processes work in its data directory; those of other users, and of other PID namespaces, are not
/// seen.
std::optional<std::string> running_user_of(const std::string& location) {
  const UniqueFd processes(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!processes) return std::nullopt;
  std::set<std::string> seen;
  for (const auto& entry : io::read_directory(processes.get(), "/proc")) {
    if (!std::ranges::all_of(entry.name, [](unsigned char c) { return std::isdigit(c) != 0; })) {
      continue;
    }
    char target[PATH_MAX];
    const ssize_t length =
        ::readlink(fmt::format("/proc/{}/cwd", entry.name).c_str(), target, sizeof target);
    if (length <= 0) continue;
    const std::string directory(target, static_cast<std::size_t>(length));
    if (!seen.insert(directory).second || !postgres::find_postmaster(directory)) continue;
    if (is_tablespace_of(location, directory)) return directory;
  }
  return std::nullopt;
}

}  // namespace

bool is_tablespace_of(const std::string& location, const std::string& data_directory) {
  const std::string links = links_of(data_directory);
  const UniqueFd fd(::open(links.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return false;
  return std::ranges::any_of(io::read_directory(fd.get(), links), [&](const auto& entry) {
    return canonical(links + "/" + entry.name) == canonical(location);
  });
}

void require_replaceable_tablespace(const std::string& version_directory,
                                    const std::string& live_directory) {
  const std::string location = io::parent_of(version_directory);
  if (!path_exists(version_directory) || is_tablespace_of(location, live_directory)) return;
  const auto user = running_user_of(location);
  if (!user && !path_exists(links_of(live_directory))) return;
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("directory \"{}\" is not a tablespace's of the instance that is replaced",
                          version_directory))
      .detail(user ? fmt::format("The server that runs on \"{}\" has it.", *user)
                   : fmt::format("No link in \"{}\" leads there, so another server may have it.",
                                 links_of(live_directory)))
      .hint(
          "Give the tablespace another place with option tablespace_mapping; or, where no server "
          "uses that directory any more, move it away.");
}

}  // namespace holdfast::restore
