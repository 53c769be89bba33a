#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/unique_fd.h"
#include "io/file_system.h"

namespace holdfast::io {

// All of these repeat interrupted and short calls, and throw an Error that names the file when the
// system refuses: "could not write file "…": No space left on device".

/// Opens with O_CLOEXEC added.
UniqueFd open_file(FileSystem& files, const std::string& path, int flags, mode_t mode = 0600);
/// Absent when there is no such file.
std::optional<UniqueFd> open_if_present(FileSystem& files, const std::string& path, int flags);

/// Reads until `into` is full or the file ends; returns how much was read. `name` is for messages.
std::size_t read_up_to(FileSystem& files, int fd, MutableByteView into, std::string_view name);
std::size_t pread_up_to(FileSystem& files, int fd, MutableByteView into, std::uint64_t offset,
                        std::string_view name);
void write_all(FileSystem& files, int fd, ByteView bytes, std::string_view name);
void pwrite_all(FileSystem& files, int fd, ByteView bytes, std::uint64_t offset,
                std::string_view name);

/// Makes content and size durable (fsync).
void sync_file(FileSystem& files, int fd, std::string_view name);
/// Makes the names in a directory durable.
void sync_directory(FileSystem& files, const std::string& path);
/// Creates `path` and its missing parents, each durably.
void make_directories(FileSystem& files, const std::string& path, mode_t mode = 0700);

/// The whole file; absent when there is none. Throws kDataCorrupted when it is longer than `limit`.
std::optional<Bytes> read_whole(FileSystem& files, const std::string& path, std::uint64_t limit);

/// Puts a file of this content at `path`, replacing one that is there. After a crash at any moment
/// the old or the new content is there, whole; after the return, the new one. A temporary file in
/// the same directory is removed when this fails.
void write_file_atomically(FileSystem& files, const std::string& path, ByteView bytes,
                           mode_t mode = 0600);

/// Renames and makes the new name durable (fsync of the directory of `to`, and of `from`'s).
void rename_durably(FileSystem& files, const std::string& from, const std::string& to);
/// Removes a file; an absent one is fine. Not made durable.
void remove_file(FileSystem& files, const std::string& path);

/// "a/b" of "a/b/c"; "/" of "/c"; "." of "c".
std::string parent_of(const std::string& path);
/// A name that no other process or thread takes: 16 random hexadecimal digits.
std::string random_suffix();

enum class EntryType { File, Directory, Link, Other };

struct DirectoryEntry {
  std::string name;
  EntryType type = EntryType::Other;
};

/// What is in the open directory `fd`, without "." and "..", in no order. Types the file system
/// leaves unknown are looked up.
std::vector<DirectoryEntry> read_directory(int fd, std::string_view name);

struct WalkedEntry {
  std::string path;  ///< relative to the root of the walk
  EntryType type = EntryType::Other;
  struct stat status {};
};

/// Calls `visit` for everything below `root`, a directory before what is in it; symbolic links are
/// reported, not followed. When `visit` returns false for a directory, it is not entered. What
/// disappears while walking is left out. Throws Error when `root` cannot be read.
void walk(const std::string& root, const std::function<bool(const WalkedEntry&)>& visit);

/// Removes `path` and everything below it; an absent one is fine. Symbolic links are removed, not
/// followed.
void remove_tree(FileSystem& files, const std::string& path);

}  // namespace holdfast::io
