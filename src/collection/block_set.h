#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace holdfast::collection {

/// A run of neighbouring blocks.
struct BlockRun {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  friend constexpr auto operator<=>(const BlockRun&, const BlockRun&) = default;
};

/// A set of block numbers. Takes two bytes a block while there are few of them and at most 8 KiB
/// for every 65536 neighbouring blocks (512 MiB of a relation); 65536 that are all in it take none.
class BlockSet {
 public:
  void insert(std::uint32_t block);
  /// `run` may end at 2^32 - 1 at most.
  void insert(const BlockRun& run);
  void insert(const BlockSet& other);
  /// Forgets all blocks from `first` on.
  void erase_from(std::uint32_t first);

  bool contains(std::uint32_t block) const;
  bool empty() const { return chunks_.empty(); }
  std::uint64_t size() const;
  /// Ascending, neither touching nor overlapping.
  void for_each_run(const std::function<void(const BlockRun&)>& visit) const;
  std::vector<BlockRun> runs() const;

 private:
  static constexpr std::uint32_t kChunkBlocks = 1U << 16;
  static constexpr std::size_t kWords = kChunkBlocks / 64;
  /// As many offsets as take the room of a bitmap.
  static constexpr std::size_t kMostOffsets = 4096;

  /// One of: sorted offsets; a bitmap; or everything (`count` says so, and both are empty).
  struct Chunk {
    std::uint32_t number = 0;
    std::uint32_t count = 0;
    std::vector<std::uint16_t> offsets;
    std::vector<std::uint64_t> bitmap;

    bool whole() const { return count == kChunkBlocks; }
    bool contains(std::uint32_t offset) const;
    void insert(std::uint32_t offset);
    void insert(std::uint32_t first, std::uint32_t last);
    void insert(const Chunk& other);
    void erase_from(std::uint32_t first);
    void to_bitmap();
    void settle();
  };

  Chunk& chunk(std::uint32_t number);

  std::vector<Chunk> chunks_;  // ascending; none is empty
};

}  // namespace holdfast::collection
