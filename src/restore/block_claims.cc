#include "restore/block_claims.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.h"
#include "collection/format.h"

namespace holdfast::restore {
namespace {

using collection::FrameBlocks;
using collection::FrameEntry;
using collection::kBlockBytes;
using collection::kFrameBytes;

std::uint64_t frames_of(std::uint64_t size) { return (size + kFrameBytes - 1) / kFrameBytes; }

std::uint64_t low_half(const FrameBlocks& blocks) {
  return (blocks & FrameBlocks(~0ULL)).to_ullong();
}
std::uint64_t high_half(const FrameBlocks& blocks) { return (blocks >> 64).to_ullong(); }

}  // namespace

BlockClaims::BlockClaims(const Layout& layout) : layout_(layout) {
  first_frame_.reserve(layout.files.size());
  std::uint64_t frames = 0;
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    by_id_[layout.files[i].id] = i;
    first_frame_.push_back(frames);
    frames += frames_of(layout.files[i].size);
  }
  unclaimed_ = std::vector<Unclaimed>(frames);
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    for (std::uint32_t frame = 0; frame < frames_of(layout.files[i].size); ++frame) {
      const FrameBlocks all = collection::leading_blocks(bytes_in_frame(i, frame));
      unclaimed_[first_frame_[i] + frame][0] = low_half(all);
      unclaimed_[first_frame_[i] + frame][1] = high_half(all);
    }
  }
}

std::uint64_t BlockClaims::bytes_in_frame(std::size_t file, std::uint32_t frame) const {
  return std::min<std::uint64_t>(kFrameBytes,
                                 layout_.files[file].size - std::uint64_t{frame} * kFrameBytes);
}

BlockClaims::Claim BlockClaims::claim(const FrameEntry& entry, Layer layer,
                                      const std::string& object) {
  const auto found = by_id_.find(entry.file_id);
  if (found == by_id_.end()) {
    if (layer == Layer::Older) return {};
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("object \"{}\" holds a frame of a file {} that the manifest lacks",
                            object, entry.file_id));
  }
  Claim claim{.file = found->second, .blocks = {}};
  const FileTarget& file = layout_.files[claim.file];
  const auto impossible = [&] {
    return Error(sqlstate::kDataCorrupted,
                 fmt::format("object \"{}\" holds an impossible frame {} of file \"{}\"", object,
                             entry.frame, file.path));
  };
  if (entry.frame >= frames_of(file.size)) {
    if (layer == Layer::Older) return {};
    throw impossible();
  }
  const std::uint64_t bytes = bytes_in_frame(claim.file, entry.frame);
  if (layer == Layer::Target && !entry.partial && entry.plain_bytes != bytes) throw impossible();

  const FrameBlocks held = entry.blocks();
  Unclaimed& unclaimed = unclaimed_[first_frame_[claim.file] + entry.frame];
  const std::uint64_t low = unclaimed[0].fetch_and(~low_half(held)) & low_half(held);
  const std::uint64_t high = unclaimed[1].fetch_and(~high_half(held)) & high_half(held);
  claim.blocks = FrameBlocks(high) << 64 | FrameBlocks(low);
  // A file's last block may be shorter: what is there must be there whole.
  if (!entry.partial && claim.blocks.any() &&
      bytes_of(claim.blocks, bytes) > bytes_of(claim.blocks, entry.plain_bytes)) {
    throw impossible();
  }
  return claim;
}

bool BlockClaims::complete(std::size_t file, std::uint32_t frame) const {
  const Unclaimed& unclaimed = unclaimed_[first_frame_[file] + frame];
  return unclaimed[0] == 0 && unclaimed[1] == 0;
}

void BlockClaims::require_complete(const std::string& backup) const {
  for (std::size_t i = 0; i < layout_.files.size(); ++i) {
    for (std::uint64_t frame = 0; frame < frames_of(layout_.files[i].size); ++frame) {
      if (complete(i, static_cast<std::uint32_t>(frame))) continue;
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("no pack of backup \"{}\" holds frame {} of file \"{}\"", backup,
                              frame, layout_.files[i].path));
    }
  }
}

std::uint64_t bytes_of(const FrameBlocks& blocks, std::uint64_t bytes_in_frame) {
  const std::uint64_t whole = blocks.count() * kBlockBytes;
  const std::uint64_t last = bytes_in_frame / kBlockBytes;
  const std::uint64_t tail = bytes_in_frame % kBlockBytes;
  std::uint64_t bytes = (blocks & collection::leading_blocks(last * kBlockBytes)).count() *
                        std::uint64_t{kBlockBytes};
  if (tail != 0 && blocks.test(last)) bytes += tail;
  return std::min(bytes, whole);
}

}  // namespace holdfast::restore
