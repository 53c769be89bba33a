#include "restore/swap.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/stat.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "io/file.h"
#include "restore/marker.h"
#include "restore/mounts.h"

namespace holdfast::restore {
namespace {

/// What is ours, or the file system's, in a data directory whose entries are moved.
bool stays(std::string_view name) { return name.starts_with(".holdfast-") || name == "lost+found"; }

bool is_mount_point(const std::string& path) {
  struct stat own {};
  struct stat parent {};
  if (::stat(path.c_str(), &own) != 0) return false;
  if (::stat(io::parent_of(path).c_str(), &parent) == 0 && parent.st_dev != own.st_dev) return true;
  // A bind mount of a directory of the same file system.
  struct statx extended {};
  if (::statx(AT_FDCWD, path.c_str(), AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &extended) != 0) {
    return false;
  }
  return (extended.stx_attributes & extended.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0;
}

void rename_to_free_name(io::FileSystem& files, const std::string& from, const std::string& to) {
  const auto attempt = [&](unsigned flags) {
    return files.rename_at(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0;
  };
  bool done = attempt(RENAME_NOREPLACE);
  // Not every file system knows the flag.
  if (!done && errno == EINVAL && !path_exists(to)) done = attempt(0);
  if (!done) throw_errno(fmt::format("rename \"{}\" to \"{}\"", from, to));
}

std::vector<std::string> entries_of(const std::string& directory) {
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno(fmt::format("open directory \"{}\"", directory));
  std::vector<std::string> names;
  for (auto& entry : io::read_directory(fd.get(), directory)) {
    if (!stays(entry.name)) names.push_back(std::move(entry.name));
  }
  // pg_control is in global: moved last, a half-moved directory cannot be started.
  std::partition(names.begin(), names.end(),
                 [](const std::string& name) { return name != "global"; });
  return names;
}

void move_entries(io::FileSystem& files, const std::string& from, const std::string& to) {
  if (!path_exists(from)) return;
  const auto names = entries_of(from);
  if (names.empty()) return;
  io::make_directories(files, to);
  for (const auto& name : names) rename_to_free_name(files, from + "/" + name, to + "/" + name);
  io::sync_directory(files, to);
  io::sync_directory(files, from);
}

}  // namespace

void rename_directory(io::FileSystem& files, const std::string& from, const std::string& to) {
  rename_to_free_name(files, from, to);
  io::sync_directory(files, io::parent_of(to));
  if (io::parent_of(from) != io::parent_of(to)) io::sync_directory(files, io::parent_of(from));
}

proto::RestoreMove plan_data_directory_move(const SwapNames& names) {
  const std::string parent = io::parent_of(names.live);
  require_no_mounts_below(names.live);
  proto::RestoreMove move;
  move.set_live(names.live);
  move.set_contents(path_exists(names.live) &&
                    (is_mount_point(names.live) || ::access(parent.c_str(), W_OK | X_OK) != 0));
  const std::string before = move.contents() ? names.live + "/.holdfast-" : names.live + ".";
  move.set_staged((move.contents() ? names.live + "/." : names.live + ".") + names.staging_suffix);
  move.set_aside(fmt::format("{}before-restore-{}", before, names.time));
  move.set_failed(fmt::format("{}failed-restore-{}", before, names.time));
  return move;
}

void move_aside(io::FileSystem& files, const proto::RestoreMove& move) {
  if (move.contents()) {
    move_entries(files, move.live(), move.aside());
  } else if (path_exists(move.staged()) && path_exists(move.live())) {
    rename_directory(files, move.live(), move.aside());
  }
}

void move_in(io::FileSystem& files, const proto::RestoreMove& move) {
  if (move.contents()) {
    struct stat staged {};
    // PostgreSQL refuses a directory that others may read, as a new mount point often is.
    if (::stat(move.staged().c_str(), &staged) == 0 &&
        ::chmod(move.live().c_str(), staged.st_mode & 07777) != 0) {
      log::warning("could not set permissions of directory \"{}\"", move.live());
    }
    move_entries(files, move.staged(), move.live());
  } else if (path_exists(move.staged())) {
    rename_directory(files, move.staged(), move.live());
  }
}

void take_out(io::FileSystem& files, const proto::RestoreMove& move,
              const std::string& destination) {
  if (move.contents()) {
    move_entries(files, move.live(), destination);
    return;
  }
  const bool moved_in =
      !path_exists(move.staged()) && !path_exists(move.failed()) && path_exists(move.live());
  if (moved_in) rename_directory(files, move.live(), destination);
}

void put_back(io::FileSystem& files, const proto::RestoreMove& move) {
  if (!path_exists(move.aside())) return;
  if (!move.contents()) {
    rename_directory(files, move.aside(), move.live());
    return;
  }
  move_entries(files, move.aside(), move.live());
  if (::rmdir(move.aside().c_str()) != 0 && errno != ENOENT) {
    throw_errno(fmt::format("remove directory \"{}\"", move.aside()));
  }
}

}  // namespace holdfast::restore
