#include "backup/received_wal.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/assert.h"
#include "base/error.h"

namespace holdfast::backup {

using collection::kFrameBytes;

void ReceivedWal::add(ByteView bytes) {
  while (!bytes.empty()) {
    const auto taken = bytes.first(std::min(bytes.size(), kFrameBytes - frame_.size()));
    frame_.insert(frame_.end(), taken.begin(), taken.end());
    bytes = bytes.subspan(taken.size());
    if (frame_.size() == kFrameBytes) {
      hashes_.push_back(collection::hash128(frame_));
      frame_.clear();
    }
  }
}

void ReceivedWal::end() {
  const Bytes zeros(kFrameBytes);
  while (hashes_.size() * kFrameBytes < segment_bytes_) {
    add(ByteView(zeros).first(kFrameBytes - frame_.size()));
  }
  frame_ = Bytes();  // with its memory: many may wait
}

void ReceivedWal::check(std::uint64_t offset, ByteView frame, std::string_view path) const {
  HF_ASSERT(offset % kFrameBytes == 0 && offset / kFrameBytes < hashes_.size());
  if (collection::hash128(frame) == hashes_[offset / kFrameBytes]) return;
  throw Error(
      sqlstate::kDataCorrupted,
      fmt::format("WAL file \"{}\" does not hold what was received, at offset {}", path, offset))
      .hint(
          "The disk under --store lost or changed it. See the system's log; take the backup "
          "again once the disk is sound.");
}

}  // namespace holdfast::backup
