#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "collection/frame.h"
#include "restore/layout.h"

namespace holdfast::restore {

/// Which blocks of the files to be restored are still to be found. Layers claim what they hold,
/// newest first, so that each block comes from the newest layer that has it.
class BlockClaims {
 public:
  explicit BlockClaims(const Layout& layout);

  /// False for a file that a partial layout leaves out.
  bool wants(std::uint32_t file_id) const { return !layout_.partial || by_id_.contains(file_id); }

  struct Claim {
    std::size_t file = 0;  ///< index into the layout's files
    collection::FrameBlocks blocks;
  };
  enum class Layer {
    Target,  ///< the layer that is restored: all that it holds belongs to its files
    Older    ///< may hold frames of files, and blocks of frames, that are there no more
  };
  /// The blocks that are to be taken from this frame; none when newer layers hold all of them.
  /// Throws kDataCorrupted naming `object` for a frame that cannot be. Thread-safe.
  Claim claim(const collection::FrameEntry& entry, Layer layer, const std::string& object);

  /// Whether every block of the frame was claimed.
  bool complete(std::size_t file, std::uint32_t frame) const;

  /// Throws kDataCorrupted when a block was claimed by none.
  void require_complete(const std::string& backup) const;

  /// The bytes of a frame that lie within its file.
  std::uint64_t bytes_in_frame(std::size_t file, std::uint32_t frame) const;

 private:
  // One bit for each block, set while nobody claimed it.
  using Unclaimed = std::array<std::atomic<std::uint64_t>, 2>;

  const Layout& layout_;
  std::unordered_map<std::uint32_t, std::size_t> by_id_;
  std::vector<std::uint64_t> first_frame_;  // of each file, in unclaimed_
  std::vector<Unclaimed> unclaimed_;
};

/// How many bytes `blocks` of a frame with `bytes_in_frame` are.
std::uint64_t bytes_of(const collection::FrameBlocks& blocks, std::uint64_t bytes_in_frame);

}  // namespace holdfast::restore
