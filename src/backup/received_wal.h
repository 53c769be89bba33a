#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "collection/frame.h"

namespace holdfast::backup {

/// What a segment of WAL was when it was received. The spool is not synced, so a page that the
/// system failed to write may come back from the disk as something else, and nobody says so.
class ReceivedWal {
 public:
  explicit ReceivedWal(std::uint64_t segment_bytes) : segment_bytes_(segment_bytes) {}

  /// The next bytes of the segment.
  void add(ByteView bytes);
  /// The rest of the segment is zeros; no bytes follow.
  void end();
  /// Throws kDataCorrupted naming `path` when `frame`, which was read at `offset` (a multiple of
  /// kFrameBytes), is not the frame that was received there.
  void check(std::uint64_t offset, ByteView frame, std::string_view path) const;

 private:
  std::uint64_t segment_bytes_;
  Bytes frame_;  ///< what came since the last whole one
  std::vector<collection::Hash128> hashes_;
};

}  // namespace holdfast::backup
