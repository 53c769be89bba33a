#include "io/fault_file_system.h"

#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "io/file.h"

namespace holdfast::io {

namespace {

/// A second descriptor of a directory, kept by an undo.
std::shared_ptr<UniqueFd> keep(int directory) {
  return std::make_shared<UniqueFd>(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace

void FaultFileSystem::add(const Fault& fault) {
  const MutexLock lock(mutex_);
  faults_.push_back({.fault = fault});
}

unsigned FaultFileSystem::calls(FileCall call) const {
  const MutexLock lock(mutex_);
  return calls_[static_cast<std::size_t>(call)];
}

std::optional<FaultFileSystem::Fault> FaultFileSystem::hit(FileCall call) {
  const MutexLock lock(mutex_);
  ++calls_[static_cast<std::size_t>(call)];
  std::optional<Fault> found;
  for (Armed& armed : faults_) {
    if (armed.fault.call != call) continue;
    ++armed.seen;
    if (!found && armed.seen >= armed.fault.nth &&
        armed.seen < armed.fault.nth + armed.fault.times) {
      found = armed.fault;
    }
  }
  if (found) errno = found->error_number;
  return found;
}

void FaultFileSystem::lose_unsynced() {
  std::vector<Undo> undos;
  {
    const MutexLock lock(mutex_);
    undos.swap(undos_);
  }
  for (auto undo = undos.rbegin(); undo != undos.rend(); ++undo) undo->run();
}

void FaultFileSystem::note(int fd, std::function<void()> undo) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return;
  const MutexLock lock(mutex_);
  undos_.push_back({.device = status.st_dev, .inode = status.st_ino, .run = std::move(undo)});
}

void FaultFileSystem::note_name(int directory, const char* path,
                                const std::function<void(int, const std::string&)>& undo) {
  const std::string parent = parent_of(path);
  const std::string name = std::string(path).substr(std::string(path).rfind('/') + 1);
  const UniqueFd fd(::openat(directory, parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return;
  note(fd.get(), [kept = keep(fd.get()), name, undo] { undo(kept->get(), name); });
}

int FaultFileSystem::created(int directory, const char* path, int flags, int fd) {
  if (fd >= 0 && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) {
    note_name(directory, path,
              [](int parent, const std::string& name) { ::unlinkat(parent, name.c_str(), 0); });
  }
  return fd;
}

void FaultFileSystem::before_change(int fd, off_t offset, std::size_t bytes) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return;
  Bytes old(bytes);
  // The writer's descriptor may be write-only; its file is read through /proc.
  const UniqueFd reader(
      ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC));
  const ssize_t got = reader ? ::pread(reader.get(), old.data(), old.size(), offset) : 0;
  old.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  note(fd, [kept = std::make_shared<UniqueFd>(::fcntl(fd, F_DUPFD_CLOEXEC, 0)), old, offset,
            size = status.st_size] {
    if (::pwrite(kept->get(), old.data(), old.size(), offset) < 0 ||
        ::ftruncate(kept->get(), size) != 0) {
      ::perror("lose_unsynced");
    }
  });
}

int FaultFileSystem::synced(int fd, int result) {
  struct stat status {};
  if (result != 0 || ::fstat(fd, &status) != 0) return result;
  const MutexLock lock(mutex_);
  std::erase_if(undos_, [&](const Undo& undo) {
    return undo.device == status.st_dev && undo.inode == status.st_ino;
  });
  return result;
}

int FaultFileSystem::open_at(int directory, const char* path, int flags, mode_t mode) {
  if (hit(FileCall::Open)) return -1;
  return created(directory, path, flags, FileSystem::open_at(directory, path, flags, mode));
}

int FaultFileSystem::open_beneath(int directory, const char* path, int flags, mode_t mode) {
  if (hit(FileCall::Open)) return -1;
  return created(directory, path, flags, FileSystem::open_beneath(directory, path, flags, mode));
}

ssize_t FaultFileSystem::read(int fd, void* into, std::size_t bytes) {
  if (hit(FileCall::Read)) return -1;
  return FileSystem::read(fd, into, bytes);
}

ssize_t FaultFileSystem::pread(int fd, void* into, std::size_t bytes, off_t offset) {
  if (hit(FileCall::Read)) return -1;
  return FileSystem::pread(fd, into, bytes, offset);
}

ssize_t FaultFileSystem::write(int fd, const void* from, std::size_t bytes) {
  const std::optional<Fault> fault = hit(FileCall::Write);
  if (fault && fault->short_bytes == 0) return -1;
  const std::size_t length = fault ? std::min(bytes, fault->short_bytes) : bytes;
  before_change(fd, ::lseek(fd, 0, SEEK_CUR), length);
  return FileSystem::write(fd, from, length);
}

ssize_t FaultFileSystem::pwrite(int fd, const void* from, std::size_t bytes, off_t offset) {
  const std::optional<Fault> fault = hit(FileCall::Write);
  if (fault && fault->short_bytes == 0) return -1;
  const std::size_t length = fault ? std::min(bytes, fault->short_bytes) : bytes;
  before_change(fd, offset, length);
  return FileSystem::pwrite(fd, from, length, offset);
}

int FaultFileSystem::truncate(int fd, off_t bytes) {
  if (hit(FileCall::Truncate)) return -1;
  struct stat status {};
  if (::fstat(fd, &status) == 0) {
    const off_t lost = std::max<off_t>(status.st_size - bytes, 0);
    before_change(fd, bytes, static_cast<std::size_t>(lost));
  }
  return FileSystem::truncate(fd, bytes);
}

int FaultFileSystem::fsync(int fd) {
  if (hit(FileCall::Sync)) return -1;
  return synced(fd, FileSystem::fsync(fd));
}

int FaultFileSystem::fdatasync(int fd) {
  if (hit(FileCall::Sync)) return -1;
  return synced(fd, FileSystem::fdatasync(fd));
}

int FaultFileSystem::syncfs(int fd) {
  if (hit(FileCall::SyncAll)) return -1;
  return FileSystem::syncfs(fd);
}

int FaultFileSystem::rename_at(int from_directory, const char* from, int to_directory,
                               const char* to, unsigned flags) {
  if (hit(FileCall::Rename)) return -1;
  // What is replaced stays reachable under a hidden name until the rename is durable.
  const std::string hidden = std::string(to) + "." + random_suffix() + ".replaced";
  const bool replaces =
      flags == 0 && FileSystem::link_at(to_directory, to, to_directory, hidden.c_str()) == 0;
  const int result = FileSystem::rename_at(from_directory, from, to_directory, to, flags);
  if (result != 0 || !replaces) {
    if (replaces) ::unlinkat(to_directory, hidden.c_str(), 0);
  }
  if (result != 0) return result;
  std::shared_ptr<UniqueFd> replaced;
  if (replaces) {
    replaced =
        std::make_shared<UniqueFd>(::openat(to_directory, hidden.c_str(), O_RDONLY | O_CLOEXEC));
    ::unlinkat(to_directory, hidden.c_str(), 0);
  }
  const std::string parent = parent_of(from);
  auto source = std::make_shared<UniqueFd>(
      ::openat(from_directory, parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::string source_name = std::string(from).substr(std::string(from).rfind('/') + 1);
  note_name(to_directory, to,
            [source, source_name, replaced](int directory, const std::string& name) {
              ::renameat(directory, name.c_str(), source->get(), source_name.c_str());
              if (!replaced) return;
              // An unlinked file cannot be linked again without privileges: copied back instead.
              const UniqueFd back(
                  ::openat(directory, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
              std::vector<char> buffer(1 << 16);
              ssize_t got = 0;
              off_t at = 0;
              while ((got = ::pread(replaced->get(), buffer.data(), buffer.size(), at)) > 0) {
                if (::pwrite(back.get(), buffer.data(), static_cast<std::size_t>(got), at) < 0) {
                  ::perror("lose_unsynced");
                }
                at += got;
              }
            });
  return result;
}

int FaultFileSystem::link_at(int from_directory, const char* from, int to_directory,
                             const char* to) {
  if (hit(FileCall::Link)) return -1;
  const int result = FileSystem::link_at(from_directory, from, to_directory, to);
  if (result == 0) {
    note_name(to_directory, to,
              [](int parent, const std::string& name) { ::unlinkat(parent, name.c_str(), 0); });
  }
  return result;
}

int FaultFileSystem::unlink_at(int directory, const char* path, int flags) {
  if (hit(FileCall::Unlink)) return -1;
  return FileSystem::unlink_at(directory, path, flags);
}

int FaultFileSystem::mkdir_at(int directory, const char* path, mode_t mode) {
  if (hit(FileCall::Mkdir)) return -1;
  const int result = FileSystem::mkdir_at(directory, path, mode);
  if (result == 0) {
    note_name(directory, path, [](int parent, const std::string& name) {
      // Everything below was created later, so it is undone already unless it was synced: such a
      // file is lost with its directory.
      const UniqueFd fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!fd) return;
      for (const DirectoryEntry& entry : read_directory(fd.get(), name)) {
        ::unlinkat(fd.get(), entry.name.c_str(),
                   entry.type == EntryType::Directory ? AT_REMOVEDIR : 0);
      }
      ::unlinkat(parent, name.c_str(), AT_REMOVEDIR);
    });
  }
  return result;
}

}  // namespace holdfast::io
