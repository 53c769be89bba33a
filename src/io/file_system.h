#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <string_view>

namespace holdfast::io {

/// The system calls that what must survive a crash or a full disk goes through, so that tests can
/// make any of them fail. Each returns what the call of that name returns: -1 with errno set on
/// failure. Only these are here; plain look-ups (stat, readdir) are called directly.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual int open_at(int directory, const char* path, int flags, mode_t mode);
  /// open_at that never leaves `directory`: ".." beyond it, absolute paths and symbolic links
  /// anywhere in `path` fail (EXDEV, ELOOP). Source: openat2(2), RESOLVE_BENEATH and
  /// RESOLVE_NO_SYMLINKS; kernels and sandboxes without it get the same by a walk with O_NOFOLLOW.
  virtual int open_beneath(int directory, const char* path, int flags, mode_t mode);
  virtual ssize_t read(int fd, void* into, std::size_t bytes);
  virtual ssize_t pread(int fd, void* into, std::size_t bytes, off_t offset);
  virtual ssize_t write(int fd, const void* from, std::size_t bytes);
  virtual ssize_t pwrite(int fd, const void* from, std::size_t bytes, off_t offset);
  virtual int truncate(int fd, off_t bytes);
  virtual int fsync(int fd);
  virtual int fdatasync(int fd);
  virtual int syncfs(int fd);
  /// `flags` as for renameat2(2): 0 or RENAME_NOREPLACE.
  virtual int rename_at(int from_directory, const char* from, int to_directory, const char* to,
                        unsigned flags);
  virtual int link_at(int from_directory, const char* from, int to_directory, const char* to);
  /// `flags` as for unlinkat(2): 0 or AT_REMOVEDIR.
  virtual int unlink_at(int directory, const char* path, int flags);
  virtual int mkdir_at(int directory, const char* path, mode_t mode);

  /// The kernel's.
  static FileSystem& real();
};

/// What open_beneath() does where the kernel has no openat2; ".." is refused altogether.
int open_by_walking(int directory, std::string_view path, int flags, mode_t mode);

}  // namespace holdfast::io
