#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <unordered_set>

#include "base/error.h"
#include "base/worker_pool.h"
#include "io/file.h"
#include "restore/fill.h"
#include "restore/marker.h"

namespace holdfast::restore {
namespace {

/// Smaller files are not worth an extent of their own.
constexpr std::uint64_t kAllocateBytes = 1U << 20;
constexpr mode_t kPermissionBits = 07777;

void make_directory(io::FileSystem& files, const DirectoryTarget& directory) {
  struct stat status {};
  if (::lstat(directory.path.c_str(), &status) == 0 && !S_ISDIR(status.st_mode)) {
    io::remove_tree(files, directory.path);
  }
  if (files.mkdir_at(AT_FDCWD, directory.path.c_str(), directory.mode) != 0 && errno != EEXIST) {
    throw_errno(fmt::format("create directory \"{}\"", directory.path));
  }
  if (::chmod(directory.path.c_str(), directory.mode) != 0) {
    throw_errno(fmt::format("set permissions of directory \"{}\"", directory.path));
  }
}

void make_link(io::FileSystem& files, const std::string& target, const std::string& path) {
  char now[4096];
  const ssize_t length = ::readlink(path.c_str(), now, sizeof now);
  if (length >= 0 && std::string_view(now, static_cast<std::size_t>(length)) == target) return;
  io::remove_tree(files, path);
  if (::symlink(target.c_str(), path.c_str()) != 0) {
    throw_errno(fmt::format("create symbolic link \"{}\"", path));
  }
}

void allocate(io::FileSystem& files, int fd, const FileTarget& file) {
  if (file.size >= kAllocateBytes) {
    if (::fallocate(fd, 0, 0, static_cast<off_t>(file.size)) == 0) return;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) {
      throw_errno(fmt::format("allocate {} bytes for file \"{}\"", file.size, file.path));
    }
  }
  if (files.truncate(fd, static_cast<off_t>(file.size)) != 0) {
    throw_errno(fmt::format("set size of file \"{}\"", file.path));
  }
}

bool make_file(io::FileSystem& files, const FileTarget& file) {
  struct stat status {};
  const bool there = ::lstat(file.path.c_str(), &status) == 0;
  if (there && (!S_ISREG(status.st_mode) || status.st_nlink > 1)) {
    io::remove_tree(files, file.path);
    status = {};
  }
  UniqueFd fd = io::open_file(files, file.path, O_RDWR | O_CREAT | O_NOFOLLOW, file.mode);
  if (::fstat(fd.get(), &status) != 0) throw_errno(fmt::format("read file \"{}\"", file.path));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > file.size && files.truncate(fd.get(), static_cast<off_t>(file.size)) != 0) {
    throw_errno(fmt::format("set size of file \"{}\"", file.path));
  }
  if (size < file.size) allocate(files, fd.get(), file);
  if ((status.st_mode & kPermissionBits) != file.mode && ::fchmod(fd.get(), file.mode) != 0) {
    throw_errno(fmt::format("set permissions of file \"{}\"", file.path));
  }
  return size > 0;
}

bool is_control(const FileTarget& file) {
  return file.kind == collection::proto::FILE_KIND_CONTROL;
}

}  // namespace

std::vector<bool> create_files(const Layout& layout, io::FileSystem& files, std::size_t workers,
                               const Stop& stop) {
  if (::chmod(layout.root.c_str(), layout.root_mode) != 0) {
    throw_errno(fmt::format("set permissions of directory \"{}\"", layout.root));
  }
  for (const auto& directory : layout.directories) make_directory(files, directory);
  for (const auto& space : layout.tablespaces) {
    make_link(files, space.location, fmt::format("{}/pg_tblspc/{}", layout.root, space.oid));
  }
  // vector<bool> packs neighbours into one byte, which threads must not share.
  std::vector<char> content(layout.files.size());
  std::atomic<std::size_t> next = 0;
  run_workers(workers, stop, [&](std::size_t, const Stop& worker_stop) {
    for (std::size_t i = next++; i < layout.files.size(); i = next++) {
      worker_stop.check();
      if (!is_control(layout.files[i])) content[i] = make_file(files, layout.files[i]) ? 1 : 0;
    }
  });
  return {content.begin(), content.end()};
}

void remove_other_files(const Layout& layout, io::FileSystem& files, const Stop& stop) {
  std::unordered_set<std::string> wanted = {layout.root + "/" + std::string(kMarkerName),
                                            layout.root + "/lost+found"};
  for (const auto& directory : layout.directories) wanted.insert(directory.path);
  for (const auto& file : layout.files) {
    if (is_control(file)) {
      io::remove_file(files, file.path);
      struct stat status {};
      if (::stat(io::parent_of(file.path).c_str(), &status) == 0) {
        io::sync_directory(files, io::parent_of(file.path));
      }
    } else {
      wanted.insert(file.path);
    }
  }
  const auto clear = [&](const std::string& root) {
    struct stat status {};
    if (::stat(root.c_str(), &status) != 0) return;
    std::vector<std::string> others;
    io::walk(root, [&](const io::WalkedEntry& entry) {
      stop.check();
      std::string path = root + "/" + entry.path;
      if (wanted.contains(path)) return true;
      others.push_back(std::move(path));
      return false;
    });
    for (const auto& path : others) io::remove_tree(files, path);
  };
  clear(layout.root);
  for (const auto& space : layout.tablespaces) {
    if (!space.inside) clear(space.build + "/" + space.version_directory);
  }
}

}  // namespace holdfast::restore
