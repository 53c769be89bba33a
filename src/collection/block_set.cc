#include "collection/block_set.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace holdfast::collection {

bool BlockSet::Chunk::contains(std::uint32_t offset) const {
  if (whole()) return true;
  if (!bitmap.empty()) return (bitmap[offset / 64] >> (offset % 64) & 1) != 0;
  return std::binary_search(offsets.begin(), offsets.end(), static_cast<std::uint16_t>(offset));
}

void BlockSet::Chunk::to_bitmap() {
  bitmap.assign(kWords, 0);
  for (const std::uint16_t offset : offsets) bitmap[offset / 64] |= std::uint64_t{1} << offset % 64;
  offsets = {};
}

// Counts the bitmap again and takes the form that its count asks for.
void BlockSet::Chunk::settle() {
  count = 0;
  for (const std::uint64_t word : bitmap) count += static_cast<std::uint32_t>(std::popcount(word));
  if (count == kChunkBlocks) bitmap = {};
}

void BlockSet::Chunk::insert(std::uint32_t offset) {
  if (whole()) return;
  if (bitmap.empty()) {
    const auto small = static_cast<std::uint16_t>(offset);
    const auto at = std::lower_bound(offsets.begin(), offsets.end(), small);
    if (at != offsets.end() && *at == small) return;
    if (offsets.size() < kMostOffsets) {
      offsets.insert(at, small);
      ++count;
      return;
    }
    to_bitmap();
  }
  std::uint64_t& word = bitmap[offset / 64];
  const std::uint64_t bit = std::uint64_t{1} << offset % 64;
  if ((word & bit) != 0) return;
  word |= bit;
  if (++count == kChunkBlocks) bitmap = {};
}

void BlockSet::Chunk::insert(std::uint32_t first, std::uint32_t last) {
  if (whole()) return;
  if (last - first == kChunkBlocks - 1) {
    offsets = {};
    bitmap = {};
    count = kChunkBlocks;
    return;
  }
  if (bitmap.empty() && offsets.size() + (last - first + 1) <= kMostOffsets) {
    for (std::uint32_t offset = first; offset <= last; ++offset) insert(offset);
    return;
  }
  if (bitmap.empty()) to_bitmap();
  for (std::uint32_t offset = first; offset <= last;) {
    const std::uint32_t bits = std::min(last + 1 - offset, 64 - offset % 64);
    const std::uint64_t ones = bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
    bitmap[offset / 64] |= ones << offset % 64;
    offset += bits;
  }
  settle();
}

void BlockSet::Chunk::insert(const Chunk& other) {
  if (whole()) return;
  if (other.whole()) {
    insert(0, kChunkBlocks - 1);
  } else if (other.bitmap.empty()) {
    for (const std::uint16_t offset : other.offsets) insert(offset);
  } else {
    if (bitmap.empty()) to_bitmap();
    for (std::size_t i = 0; i < kWords; ++i) bitmap[i] |= other.bitmap[i];
    settle();
  }
}

void BlockSet::Chunk::erase_from(std::uint32_t first) {
  if (whole()) {
    bitmap.assign(kWords, ~std::uint64_t{0});
  } else if (bitmap.empty()) {
    const auto at =
        std::lower_bound(offsets.begin(), offsets.end(), static_cast<std::uint16_t>(first));
    offsets.erase(at, offsets.end());
    count = static_cast<std::uint32_t>(offsets.size());
    return;
  }
  std::size_t word = first / 64;
  if (first % 64 != 0) bitmap[word++] &= (std::uint64_t{1} << first % 64) - 1;
  std::fill(bitmap.begin() + static_cast<std::ptrdiff_t>(word), bitmap.end(), 0);
  settle();
}

BlockSet::Chunk& BlockSet::chunk(std::uint32_t number) {
  // WAL mostly goes on where it is.
  if (!chunks_.empty() && chunks_.back().number == number) return chunks_.back();
  auto at = std::lower_bound(
      chunks_.begin(), chunks_.end(), number,
      [](const Chunk& chunk, std::uint32_t wanted) { return chunk.number < wanted; });
  if (at == chunks_.end() || at->number != number) {
    at = chunks_.insert(at, Chunk{});
    at->number = number;
  }
  return *at;
}

void BlockSet::insert(std::uint32_t block) {
  chunk(block / kChunkBlocks).insert(block % kChunkBlocks);
}

void BlockSet::insert(const BlockRun& run) {
  if (run.count == 0) return;
  HF_ASSERT(run.count - 1 <= UINT32_MAX - run.first);
  const std::uint32_t last = run.first + (run.count - 1);
  for (std::uint32_t number = run.first / kChunkBlocks; number <= last / kChunkBlocks; ++number) {
    const std::uint32_t begin = number == run.first / kChunkBlocks ? run.first % kChunkBlocks : 0;
    const std::uint32_t end =
        number == last / kChunkBlocks ? last % kChunkBlocks : kChunkBlocks - 1;
    chunk(number).insert(begin, end);
  }
}

void BlockSet::insert(const BlockSet& other) {
  for (const Chunk& more : other.chunks_) chunk(more.number).insert(more);
}

void BlockSet::erase_from(std::uint32_t first) {
  while (!chunks_.empty() && chunks_.back().number > first / kChunkBlocks) chunks_.pop_back();
  if (chunks_.empty() || chunks_.back().number < first / kChunkBlocks) return;
  chunks_.back().erase_from(first % kChunkBlocks);
  if (chunks_.back().count == 0) chunks_.pop_back();
}

bool BlockSet::contains(std::uint32_t block) const {
  const auto at = std::lower_bound(
      chunks_.begin(), chunks_.end(), block / kChunkBlocks,
      [](const Chunk& chunk, std::uint32_t wanted) { return chunk.number < wanted; });
  return at != chunks_.end() && at->number == block / kChunkBlocks &&
         at->contains(block % kChunkBlocks);
}

std::uint64_t BlockSet::size() const {
  std::uint64_t size = 0;
  for (const Chunk& chunk : chunks_) size += chunk.count;
  return size;
}

void BlockSet::for_each_run(const std::function<void(const BlockRun&)>& visit) const {
  BlockRun run;
  const auto add = [&](std::uint32_t first, std::uint32_t count) {
    if (run.count != 0 && run.first + run.count == first) {
      run.count += count;
      return;
    }
    if (run.count != 0) visit(run);
    run = {first, count};
  };
  for (const Chunk& chunk : chunks_) {
    const std::uint32_t base = chunk.number * kChunkBlocks;
    if (chunk.whole()) add(base, kChunkBlocks);
    for (const std::uint16_t offset : chunk.offsets) add(base + offset, 1);
    for (std::size_t i = 0; i < chunk.bitmap.size(); ++i) {
      std::uint64_t word = chunk.bitmap[i];
      std::uint32_t at = base + static_cast<std::uint32_t>(i) * 64;
      while (word != 0) {
        const int zeros = std::countr_zero(word);
        word >>= zeros;
        at += static_cast<std::uint32_t>(zeros);
        const int ones = std::countr_one(word);
        add(at, static_cast<std::uint32_t>(ones));
        at += static_cast<std::uint32_t>(ones);
        word = ones == 64 ? 0 : word >> ones;
      }
    }
  }
  if (run.count != 0) visit(run);
}

std::vector<BlockRun> BlockSet::runs() const {
  std::vector<BlockRun> runs;
  for_each_run([&](const BlockRun& run) { runs.push_back(run); });
  return runs;
}

}  // namespace holdfast::collection
