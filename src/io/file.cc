#include "io/file.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "base/error.h"

namespace holdfast::io {

namespace {

/// Linux transfers at most this much in one call. Source: read(2), NOTES.
constexpr std::size_t kLongestCall = 0x7ffff000;

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

EntryType type_of(mode_t mode) {
  if (S_ISREG(mode)) return EntryType::File;
  if (S_ISDIR(mode)) return EntryType::Directory;
  if (S_ISLNK(mode)) return EntryType::Link;
  return EntryType::Other;
}

UniqueFd open_directory(FileSystem& files, const std::string& path) {
  return open_file(files, path, O_RDONLY | O_DIRECTORY);
}

void walk_below(int directory, const std::string& name, const std::string& relative,
                const std::function<bool(const WalkedEntry&)>& visit) {
  for (const DirectoryEntry& found : read_directory(directory, name)) {
    WalkedEntry entry;
    entry.path = relative.empty() ? found.name : relative + "/" + found.name;
    if (::fstatat(directory, found.name.c_str(), &entry.status, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      throw_errno(fmt::format("stat file \"{}/{}\"", name, found.name));
    }
    entry.type = type_of(entry.status.st_mode);
    if (!visit(entry) || entry.type != EntryType::Directory) continue;
    const UniqueFd below(
        ::openat(directory, found.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!below) {
      if (errno == ENOENT) continue;
      throw_errno(fmt::format("open directory \"{}/{}\"", name, found.name));
    }
    walk_below(below.get(), name + "/" + found.name, entry.path, visit);
  }
}

void remove_below(FileSystem& files, int directory, const std::string& name) {
  for (const DirectoryEntry& entry : read_directory(directory, name)) {
    const std::string path = name + "/" + entry.name;
    int flags = 0;
    if (entry.type == EntryType::Directory) {
      const UniqueFd below(files.open_at(directory, entry.name.c_str(),
                                         O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0));
      if (!below && errno != ENOENT) throw_errno(fmt::format("open directory \"{}\"", path));
      if (below) remove_below(files, below.get(), path);
      flags = AT_REMOVEDIR;
    }
    if (files.unlink_at(directory, entry.name.c_str(), flags) != 0 && errno != ENOENT) {
      throw_errno(fmt::format("remove \"{}\"", path));
    }
  }
}

}  // namespace

UniqueFd open_file(FileSystem& files, const std::string& path, int flags, mode_t mode) {
  UniqueFd fd(files.open_at(AT_FDCWD, path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd) {
    throw_errno(fmt::format("{} \"{}\"",
                            (flags & O_DIRECTORY) != 0 ? "open directory"
                            : (flags & O_CREAT) != 0   ? "create file"
                                                       : "open file",
                            path));
  }
  return fd;
}

std::optional<UniqueFd> open_if_present(FileSystem& files, const std::string& path, int flags) {
  UniqueFd fd(files.open_at(AT_FDCWD, path.c_str(), flags | O_CLOEXEC, 0));
  if (fd) return fd;
  if (errno == ENOENT) return std::nullopt;
  throw_errno(fmt::format("open file \"{}\"", path));
}

std::size_t read_up_to(FileSystem& files, int fd, MutableByteView into, std::string_view name) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got =
        files.read(fd, into.data() + done, std::min(into.size() - done, kLongestCall));
    if (got == 0) break;
    if (got > 0) {
      done += static_cast<std::size_t>(got);
    } else if (errno != EINTR) {
      throw_errno(fmt::format("read file \"{}\"", name));
    }
  }
  return done;
}

std::size_t pread_up_to(FileSystem& files, int fd, MutableByteView into, std::uint64_t offset,
                        std::string_view name) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got =
        files.pread(fd, into.data() + done, std::min(into.size() - done, kLongestCall),
                    static_cast<off_t>(offset + done));
    if (got == 0) break;
    if (got > 0) {
      done += static_cast<std::size_t>(got);
    } else if (errno != EINTR) {
      throw_errno(fmt::format("read file \"{}\"", name));
    }
  }
  return done;
}

void write_all(FileSystem& files, int fd, ByteView bytes, std::string_view name) {
  while (!bytes.empty()) {
    const ssize_t put = files.write(fd, bytes.data(), std::min(bytes.size(), kLongestCall));
    if (put > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(put));
    } else if (put == 0) {
      // No error and no progress means no space. Source: PostgreSQL treats it so as well.
      throw_errno(fmt::format("write file \"{}\"", name), ENOSPC);
    } else if (errno != EINTR) {
      throw_errno(fmt::format("write file \"{}\"", name));
    }
  }
}

void pwrite_all(FileSystem& files, int fd, ByteView bytes, std::uint64_t offset,
                std::string_view name) {
  while (!bytes.empty()) {
    const ssize_t put = files.pwrite(fd, bytes.data(), std::min(bytes.size(), kLongestCall),
                                     static_cast<off_t>(offset));
    if (put > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(put));
      offset += static_cast<std::uint64_t>(put);
    } else if (put == 0) {
      throw_errno(fmt::format("write file \"{}\"", name), ENOSPC);
    } else if (errno != EINTR) {
      throw_errno(fmt::format("write file \"{}\"", name));
    }
  }
}

void sync_file(FileSystem& files, int fd, std::string_view name) {
  // Never repeated: after a failed fsync the kernel may have dropped the dirty pages, and a second
  // one would succeed. Source: PostgreSQL's data_sync_retry documentation.
  if (files.fsync(fd) != 0) throw_errno(fmt::format("fsync file \"{}\"", name));
}

void sync_directory(FileSystem& files, const std::string& path) {
  const UniqueFd fd = open_directory(files, path);
  if (files.fsync(fd.get()) != 0) throw_errno(fmt::format("fsync directory \"{}\"", path));
}

void make_directories(FileSystem& files, const std::string& path, mode_t mode) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return;
    throw_errno(fmt::format("create directory \"{}\"", path), ENOTDIR);
  }
  const std::string parent = parent_of(path);
  if (parent != path) make_directories(files, parent, mode);
  if (files.mkdir_at(AT_FDCWD, path.c_str(), mode) != 0 && errno != EEXIST) {
    throw_errno(fmt::format("create directory \"{}\"", path));
  }
  sync_directory(files, parent);
}

std::optional<Bytes> read_whole(FileSystem& files, const std::string& path, std::uint64_t limit) {
  const std::optional<UniqueFd> fd = open_if_present(files, path, O_RDONLY);
  if (!fd) return std::nullopt;
  struct stat status {};
  if (::fstat(fd->get(), &status) != 0) throw_errno(fmt::format("stat file \"{}\"", path));
  Bytes bytes;
  // Read until the end rather than to st_size: files of /proc say 0.
  std::size_t used = 0;
  std::size_t room = std::min<std::uint64_t>(static_cast<std::uint64_t>(status.st_size), limit) + 1;
  while (true) {
    bytes.resize(used + room);
    const std::size_t got =
        read_up_to(files, fd->get(), MutableByteView(bytes).subspan(used), path);
    used += got;
    if (used > limit) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("file \"{}\" is longer than {} bytes", path, limit));
    }
    if (got < room) break;
    room = 65536;
  }
  bytes.resize(used);
  return bytes;
}

void write_file_atomically(FileSystem& files, const std::string& path, ByteView bytes,
                           mode_t mode) {
  const std::string temporary = fmt::format("{}.{}.tmp", path, random_suffix());
  UniqueFd fd = open_file(files, temporary, O_WRONLY | O_CREAT | O_EXCL, mode);
  try {
    write_all(files, fd.get(), bytes, temporary);
    sync_file(files, fd.get(), temporary);
    fd.reset();
    if (files.rename_at(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), 0) != 0) {
      throw_errno(fmt::format("rename file \"{}\" to \"{}\"", temporary, path));
    }
  } catch (const Error&) {
    files.unlink_at(AT_FDCWD, temporary.c_str(), 0);
    throw;
  }
  sync_directory(files, parent_of(path));
}

void rename_durably(FileSystem& files, const std::string& from, const std::string& to) {
  if (files.rename_at(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), 0) != 0) {
    throw_errno(fmt::format("rename file \"{}\" to \"{}\"", from, to));
  }
  sync_directory(files, parent_of(to));
  if (parent_of(from) != parent_of(to)) sync_directory(files, parent_of(from));
}

void remove_file(FileSystem& files, const std::string& path) {
  if (files.unlink_at(AT_FDCWD, path.c_str(), 0) != 0 && errno != ENOENT) {
    throw_errno(fmt::format("remove file \"{}\"", path));
  }
}

std::string parent_of(const std::string& path) {
  const std::size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return path.empty() ? "." : "/";
  const std::size_t slash = path.rfind('/', end);
  if (slash == std::string::npos) return ".";
  const std::size_t last = path.find_last_not_of('/', slash);
  return last == std::string::npos ? "/" : path.substr(0, last + 1);
}

std::string random_suffix() {
  std::array<std::byte, 8> random{};
  // 8 bytes come whole once the pool is ready, which it is before any daemon starts. Source:
  // getrandom(2).
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    throw_errno("get random bytes");
  }
  return to_hex(random);
}

std::vector<DirectoryEntry> read_directory(int fd, std::string_view name) {
  // A descriptor of its own, because reading moves the position and closedir closes.
  UniqueFd own(::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!own) throw_errno(fmt::format("open directory \"{}\"", name));
  const std::unique_ptr<DIR, CloseDirectory> directory(::fdopendir(own.get()));
  if (!directory) throw_errno(fmt::format("open directory \"{}\"", name));
  own.release();
  std::vector<DirectoryEntry> entries;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(directory.get());
    if (entry == nullptr) {
      if (errno != 0) throw_errno(fmt::format("read directory \"{}\"", name));
      return entries;
    }
    const std::string_view entry_name = entry->d_name;
    if (entry_name == "." || entry_name == "..") continue;
    EntryType type = EntryType::Other;
    switch (entry->d_type) {
      case DT_REG:
        type = EntryType::File;
        break;
      case DT_DIR:
        type = EntryType::Directory;
        break;
      case DT_LNK:
        type = EntryType::Link;
        break;
      case DT_UNKNOWN: {
        struct stat status {};
        if (::fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
          if (errno == ENOENT) continue;
          throw_errno(fmt::format("stat file \"{}/{}\"", name, entry_name));
        }
        type = type_of(status.st_mode);
        break;
      }
      default:
        break;
    }
    entries.push_back({.name = std::string(entry_name), .type = type});
  }
}

void walk(const std::string& root, const std::function<bool(const WalkedEntry&)>& visit) {
  const UniqueFd fd = open_directory(FileSystem::real(), root);
  walk_below(fd.get(), root, "", visit);
}

void remove_tree(FileSystem& files, const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return;
    throw_errno(fmt::format("stat file \"{}\"", path));
  }
  int flags = 0;
  if (S_ISDIR(status.st_mode)) {
    const UniqueFd fd = open_file(files, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    remove_below(files, fd.get(), path);
    flags = AT_REMOVEDIR;
  }
  if (files.unlink_at(AT_FDCWD, path.c_str(), flags) != 0 && errno != ENOENT) {
    throw_errno(fmt::format("remove \"{}\"", path));
  }
}

}  // namespace holdfast::io
