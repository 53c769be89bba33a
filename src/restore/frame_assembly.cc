#include "restore/frame_assembly.h"

#include <algorithm>
#include <cstring>

namespace holdfast::restore {

using collection::kBlockBytes;

void FrameAssembly::put(std::size_t slot, const collection::FrameBlocks& held,
                        const collection::FrameBlocks& blocks, ByteView plain) {
  std::byte* const into = frame(slot).data();
  for_each_run(held, blocks, [&](std::size_t first, std::size_t count, std::size_t at) {
    const std::size_t from = at * kBlockBytes;
    std::memcpy(into + first * kBlockBytes, plain.data() + from,
                std::min<std::size_t>(count * kBlockBytes, plain.size() - from));
  });
  filled_[slot] |= blocks;
}

}  // namespace holdfast::restore
