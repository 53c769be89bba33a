#include "io/file_system.h"

#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace holdfast::io {

int open_by_walking(int directory, std::string_view path, int flags, mode_t mode) {
  if (path.empty() || path.front() == '/') {
    errno = path.empty() ? ENOENT : EXDEV;
    return -1;
  }
  UniqueFd parent;
  int at = directory;
  while (true) {
    const std::size_t slash = path.find('/');
    const std::string part(path.substr(0, slash));
    if (part == "..") {
      errno = EXDEV;
      return -1;
    }
    if (slash == std::string_view::npos) {
      const int fd = ::openat(at, part.c_str(), flags | O_NOFOLLOW, mode);
      if (fd < 0 || (flags & O_PATH) == 0) return fd;
      // O_PATH | O_NOFOLLOW opens a link itself instead of failing.
      struct stat status {};
      if (::fstat(fd, &status) == 0 && !S_ISLNK(status.st_mode)) return fd;
      ::close(fd);
      errno = ELOOP;
      return -1;
    }
    if (!part.empty()) {
      UniqueFd next(::openat(at, part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
      struct stat status {};
      if (!next || ::fstat(next.get(), &status) != 0) return -1;
      if (!S_ISDIR(status.st_mode)) {
        errno = S_ISLNK(status.st_mode) ? ELOOP : ENOTDIR;
        return -1;
      }
      parent = std::move(next);
      at = parent.get();
    }
    path.remove_prefix(slash + 1);
  }
}

int FileSystem::open_at(int directory, const char* path, int flags, mode_t mode) {
  return ::openat(directory, path, flags, mode);
}

int FileSystem::open_beneath(int directory, const char* path, int flags, mode_t mode) {
  // Remembered once: a sandbox answers the same each time.
  static std::atomic<bool> unavailable = false;
  if (!unavailable.load(std::memory_order_relaxed)) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags);
    how.mode = (flags & O_CREAT) != 0 ? mode : 0;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    const long fd = ::syscall(SYS_openat2, directory, path, &how, sizeof how);
    // EPERM is what container sandboxes answer for a call they do not know; openat2 itself uses it
    // only for sealed and O_NOATIME files, which the walk then refuses as well.
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return static_cast<int>(fd);
    if (errno == ENOSYS) unavailable = true;
  }
  return open_by_walking(directory, path, flags, mode);
}

ssize_t FileSystem::read(int fd, void* into, std::size_t bytes) { return ::read(fd, into, bytes); }

ssize_t FileSystem::pread(int fd, void* into, std::size_t bytes, off_t offset) {
  return ::pread(fd, into, bytes, offset);
}

ssize_t FileSystem::write(int fd, const void* from, std::size_t bytes) {
  return ::write(fd, from, bytes);
}

ssize_t FileSystem::pwrite(int fd, const void* from, std::size_t bytes, off_t offset) {
  return ::pwrite(fd, from, bytes, offset);
}

int FileSystem::truncate(int fd, off_t bytes) { return ::ftruncate(fd, bytes); }

int FileSystem::fsync(int fd) { return ::fsync(fd); }

int FileSystem::fdatasync(int fd) { return ::fdatasync(fd); }

int FileSystem::syncfs(int fd) { return ::syncfs(fd); }

int FileSystem::rename_at(int from_directory, const char* from, int to_directory, const char* to,
                          unsigned flags) {
  // renameat2 with flags is not implemented by every file system (NFS: EINVAL); without, it is.
  if (flags == 0) return ::renameat(from_directory, from, to_directory, to);
  return static_cast<int>(::syscall(SYS_renameat2, from_directory, from, to_directory, to, flags));
}

int FileSystem::link_at(int from_directory, const char* from, int to_directory, const char* to) {
  return ::linkat(from_directory, from, to_directory, to, 0);
}

int FileSystem::unlink_at(int directory, const char* path, int flags) {
  return ::unlinkat(directory, path, flags);
}

int FileSystem::mkdir_at(int directory, const char* path, mode_t mode) {
  return ::mkdirat(directory, path, mode);
}

FileSystem& FileSystem::real() {
  static FileSystem files;
  return files;
}

}  // namespace holdfast::io
