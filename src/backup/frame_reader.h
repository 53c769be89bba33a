#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "backup/file_table.h"
#include "base/bytes.h"
#include "base/stop.h"
#include "base/unique_fd.h"
#include "collection/frame.h"
#include "postgres/relation_path.h"

namespace holdfast::backup {

enum class PageChecksums { Off, On };

/// One frame, or some of its blocks, as it was read.
struct FrameRead {
  enum class State {
    Whole,  ///< as long as planned
    Short,  ///< the file ends before or in it: it was truncated since planning
    Grown,  ///< the whole of a small file that was replaced by a longer one since planning
    Gone    ///< there is no such file any more
  };
  State state = State::Whole;
  ByteView bytes;  ///< valid until the next read
  /// Of read_blocks() and keep_blocks(): those that `bytes` holds, one after the other.
  collection::FrameBlocks blocks{};
  /// Of a Short one: bytes of the frame's range that the file had.
  std::size_t end = 0;
  /// Blocks whose checksum stayed wrong: torn by a write that was going on, or corrupt. Only the
  /// backup's WAL can tell.
  std::vector<postgres::BlockKey> suspects;
};

/// Reads frames of planned files and verifies the checksums of relation pages. One per thread;
/// keeps the last file open, since frames are drawn in order.
class FrameReader {
 public:
  /// `outside_root`: below which files with absolute paths are found; empty: where they are.
  FrameReader(const FileTable& files, std::filesystem::path data_directory, PageChecksums checksums,
              std::filesystem::path outside_root = {});
  ~FrameReader();
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;

  /// Asks the kernel to have so many frames after the one that is read ready; 0: none.
  void read_ahead(std::uint32_t frames) { read_ahead_ = frames; }

  /// The frame of the file at `position` in the table. A page whose checksum is wrong is read again
  /// a few times, since PostgreSQL may have been writing it. Throws for files that cannot be read.
  FrameRead read(std::size_t position, std::uint32_t frame, const Stop& stop);
  /// Reads these blocks of the frame and nothing else. Ones that the file has not (any more) are
  /// left out: the state is Short then.
  FrameRead read_blocks(std::size_t position, std::uint32_t frame,
                        const collection::FrameBlocks& blocks, const Stop& stop);
  /// Reduces what read() gave last to the blocks for which `wanted` is true.
  void keep_blocks(FrameRead& read,
                   const std::function<bool(std::size_t block, ByteView page)>& wanted);
  /// Of all files so far, with what was read again.
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  bool open(std::size_t position);
  std::size_t pread(MutableByteView into, std::uint64_t offset);
  enum class Prefetch { Window, Further };
  void prefetch(std::uint32_t frame, std::uint64_t size, Prefetch what);
  /// Part of the buffer and where it was read from.
  struct Stretch {
    std::size_t at = 0;  ///< in the buffer
    std::size_t bytes = 0;
    std::uint64_t offset = 0;  ///< in the file
  };
  /// Gives how many of the stretch's bytes are still in the file.
  std::size_t verify(FrameRead& read, const Stretch& stretch, const Stop& stop);
  void announce(std::uint64_t frame_offset, const collection::FrameBlocks& blocks);

  const FileTable& files_;
  const std::filesystem::path data_directory_;
  const PageChecksums checksums_;
  const std::filesystem::path outside_root_;
  std::uint32_t read_ahead_ = 0;
  std::uint64_t bytes_read_ = 0;
  struct Free {
    void operator()(std::byte* bytes) const;
  };
  std::unique_ptr<std::byte, Free> buffer_;

  std::optional<std::size_t> open_position_;
  UniqueFd file_;  // none when the open position's file is gone
  std::string open_path_;
  std::optional<postgres::RelationPath> relation_;  // only when its pages are to be verified
  std::vector<std::uint32_t> bad_;
};

}  // namespace holdfast::backup
