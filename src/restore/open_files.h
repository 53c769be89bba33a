#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <unordered_map>

#include "base/bytes.h"
#include "base/unique_fd.h"
#include "io/aligned_buffer.h"
#include "io/file_system.h"

namespace holdfast::restore {

/// The files that one worker reads and writes, the last used ones kept open. Big files are written
/// past the page cache (O_DIRECT) where the file system allows it: the cache would only be filled
/// with what nobody reads soon, which costs more than the disk takes. Single blocks go through it:
/// each would wait for the disk.
class OpenFiles {
 public:
  explicit OpenFiles(io::FileSystem& files, std::size_t limit = 64)
      : files_(files), limit_(limit) {}

  struct Place {
    const std::string& path;
    std::uint64_t file_size = 0;
    std::uint64_t offset = 0;
  };
  /// Writes all of `bytes`, which starts at a multiple of io::kDirectAlignment in memory. Throws
  /// Error naming the file.
  void write(const Place& place, MutableByteView bytes);
  /// Reads `bytes` of the file into `buffer` (aligned, its size a multiple of
  /// io::kDirectAlignment); false when the file ends before. Takes what is in the page cache from
  /// there, the rest from the disk.
  bool read(const Place& place, std::size_t bytes, MutableByteView buffer);

  std::size_t open_count() const { return entries_.size(); }

 private:
  struct Entry {
    std::string path;
    UniqueFd buffered;
    UniqueFd direct;  ///< none for small files, and where O_DIRECT is not supported
  };
  Entry& open(const Place& place);
  /// False where the disk wants another alignment, after perhaps writing a part: the page cache
  /// takes anything. Throws Error for whatever else is wrong.
  bool write_direct(const Entry& entry, const Place& place, ByteView bytes);
  static bool cached(int fd, std::uint64_t offset, std::size_t bytes);

  io::FileSystem& files_;
  const std::size_t limit_;
  std::list<Entry> entries_;  // last used first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_path_;
};

}  // namespace holdfast::restore
