#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "io/file_system.h"

namespace holdfast::io {

enum class FileCall { Open, Read, Write, Truncate, Sync, Rename, Link, Unlink, Mkdir, SyncAll };

/// A FileSystem for tests: does the real thing, but fails chosen calls, and can take back what a
/// power failure would lose.
class FaultFileSystem : public FileSystem {
 public:
  struct Fault {
    FileCall call = FileCall::Write;
    unsigned nth = 1;             ///< counted from 1 over all calls of this kind since add()
    unsigned times = 1;           ///< how many calls fail from there on
    int error_number = 5;         ///< errno of the failure (EIO)
    std::size_t short_bytes = 0;  ///< writes: not 0: succeeds with at most this much instead
  };

  void add(const Fault& fault);
  /// Calls of this kind so far.
  unsigned calls(FileCall call) const;

  /// Undoes, newest first, every write, truncation, creation, rename and link that no
  /// fsync of the file (for content) or of the directory (for names) has made durable. Stricter
  /// than most file systems: names are lost even when the file itself was synced. Removals stay.
  void lose_unsynced();

  int open_at(int directory, const char* path, int flags, mode_t mode) override;
  int open_beneath(int directory, const char* path, int flags, mode_t mode) override;
  ssize_t read(int fd, void* into, std::size_t bytes) override;
  ssize_t pread(int fd, void* into, std::size_t bytes, off_t offset) override;
  ssize_t write(int fd, const void* from, std::size_t bytes) override;
  ssize_t pwrite(int fd, const void* from, std::size_t bytes, off_t offset) override;
  int truncate(int fd, off_t bytes) override;
  int fsync(int fd) override;
  int fdatasync(int fd) override;
  /// Counts as FileCall::SyncAll. What lose_unsynced() undoes is not changed by it.
  int syncfs(int fd) override;
  int rename_at(int from_directory, const char* from, int to_directory, const char* to,
                unsigned flags) override;
  int link_at(int from_directory, const char* from, int to_directory, const char* to) override;
  int unlink_at(int directory, const char* path, int flags) override;
  int mkdir_at(int directory, const char* path, mode_t mode) override;

 private:
  struct Armed {
    Fault fault;
    unsigned seen = 0;
  };
  struct Undo {
    std::uint64_t device = 0;  ///< of the file or directory whose fsync makes it durable
    std::uint64_t inode = 0;
    std::function<void()> run;
  };

  /// Counts the call; when a fault hits it, sets errno.
  std::optional<Fault> hit(FileCall call);
  /// `undo` runs in lose_unsynced() unless the file or directory behind `fd` is synced before.
  void note(int fd, std::function<void()> undo);
  void note_name(int directory, const char* path,
                 const std::function<void(int, const std::string&)>& undo);
  int created(int directory, const char* path, int flags, int fd);
  void before_change(int fd, off_t offset, std::size_t bytes);
  int synced(int fd, int result);

  mutable Mutex mutex_;
  std::vector<Armed> faults_ HF_GUARDED_BY(mutex_);
  unsigned calls_[10] HF_GUARDED_BY(mutex_) = {};
  std::vector<Undo> undos_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::io
