#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "collection/frame.h"
#include "io/aligned_buffer.h"

namespace holdfast::restore {

/// Frames whose blocks come from several layers, put together in memory so that each is written at
/// once. Used by one thread.
class FrameAssembly {
 public:
  /// Frames that are put together at a time: more of them make larger requests of each layer.
  static constexpr std::size_t kSlots = 16;

  FrameAssembly() : memory_(kSlots * collection::kFrameBytes) {}

  void clear() { filled_ = {}; }
  /// Puts `blocks`, each of which `held` has, in their places; `plain` is the bytes of `held`, one
  /// block after the other, of which the last may be short.
  void put(std::size_t slot, const collection::FrameBlocks& held,
           const collection::FrameBlocks& blocks, ByteView plain);

  const collection::FrameBlocks& filled(std::size_t slot) const { return filled_[slot]; }
  /// The whole frame; only what is filled() means anything.
  MutableByteView frame(std::size_t slot) {
    return memory_.view().subspan(slot * collection::kFrameBytes, collection::kFrameBytes);
  }

 private:
  io::AlignedBuffer memory_;
  std::array<collection::FrameBlocks, kSlots> filled_{};
};

/// Calls `each(first, count, at)` for every run of neighbours in `blocks`, of which `held` has all:
/// `at` is where the first of them lies, in blocks, among those that `held` has.
template <typename Each>
void for_each_run(const collection::FrameBlocks& held, const collection::FrameBlocks& blocks,
                  const Each& each) {
  std::size_t at = 0;
  for (std::size_t block = 0; block < blocks.size();) {
    if (!blocks.test(block)) {
      if (held.test(block)) ++at;
      ++block;
      continue;
    }
    const std::size_t first = block;
    while (block < blocks.size() && blocks.test(block)) ++block;
    each(first, block - first, at);
    at += block - first;
  }
}

/// How many runs of neighbours there are.
inline std::size_t count_runs(const collection::FrameBlocks& blocks) {
  return (blocks & ~(blocks << 1)).count();
}

}  // namespace holdfast::restore
