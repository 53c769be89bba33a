#include "backup/selection.h"

#include <string>

#include "base/bytes.h"

namespace holdfast::backup {

void Selection::set(std::size_t position, How how) {
  if (position >= how_.size()) how_.resize(position + 1, How::Whole);
  how_[position] = how;
}

collection::FrameBlocks Selection::blocks(std::uint32_t ordinal) const {
  const auto found = blocks_.find(ordinal);
  return found == blocks_.end() ? collection::FrameBlocks() : found->second;
}

void Selection::set_former_blocks(std::size_t position, std::uint32_t blocks) {
  former_blocks_[position] = blocks;
}

std::uint32_t Selection::former_blocks(std::size_t position) const {
  const auto found = former_blocks_.find(position);
  return found == former_blocks_.end() ? 0 : found->second;
}

std::optional<collection::Hash128> Selection::former_hash(std::uint32_t ordinal) const {
  const auto found = former_hashes_.find(ordinal);
  if (found == former_hashes_.end()) return std::nullopt;
  return found->second;
}

void FrameHashes::set(std::uint32_t ordinal, const collection::Hash128& hash) {
  MutexLock lock(mutex_);
  hashes_[ordinal] = hash;
}

void FrameHashes::store(const FileTable& files, collection::proto::Manifest& manifest) const {
  MutexLock lock(mutex_);
  for (auto& file : *manifest.mutable_files()) {
    const auto position = files.find(file.id());
    if (!position || files[*position].by_blocks) continue;
    std::string hashes;
    for (std::uint32_t frame = 0; frame < files.frames(*position); ++frame) {
      const auto found = hashes_.find(files[*position].first_frame + frame);
      // Not copied yet: this is a checkpoint, or the control file.
      if (found == hashes_.end()) {
        hashes.clear();
        break;
      }
      hashes += as_text(collection::to_bytes(found->second));
    }
    file.set_frame_hashes(hashes);
  }
}

}  // namespace holdfast::backup
