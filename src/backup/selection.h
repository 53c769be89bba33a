#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "backup/file_table.h"
#include "base/mutex.h"
#include "collection/frame.h"
#include "postgres/lsn.h"

namespace holdfast::backup {

/// What of the planned files is taken. Without entries, as for a full: everything, whole.
class Selection {
 public:
  enum class How : std::uint8_t {
    Whole,
    Blocks,   ///< those of blocks(), without looking at the others
    PageLsn,  ///< blocks that changed since a position, by the LSNs of their pages
    Compare   ///< frames whose checksum differs from that in the layer before
  };

  /// Of a file, by its position in the table.
  void set(std::size_t position, How how);
  How how(std::size_t position) const {
    return position < how_.size() ? how_[position] : How::Whole;
  }

  /// Blocks: of a frame, by its ordinal. None: nothing of it is taken.
  void add_block(std::uint32_t ordinal, std::size_t block) { blocks_[ordinal].set(block); }
  collection::FrameBlocks blocks(std::uint32_t ordinal) const;

  /// PageLsn: pages with this LSN and later ones changed, and so did all from block `former_blocks`
  /// of the file on.
  void set_since(postgres::Lsn since) { since_ = since; }
  postgres::Lsn since() const { return since_; }
  void set_former_blocks(std::size_t position, std::uint32_t blocks);
  std::uint32_t former_blocks(std::size_t position) const;

  /// Compare: the checksum of a frame in the layer before; absent when it had no such frame.
  void set_former_hash(std::uint32_t ordinal, const collection::Hash128& hash) {
    former_hashes_[ordinal] = hash;
  }
  std::optional<collection::Hash128> former_hash(std::uint32_t ordinal) const;

 private:
  std::vector<How> how_;
  postgres::Lsn since_;
  std::unordered_map<std::uint32_t, collection::FrameBlocks> blocks_;
  std::unordered_map<std::size_t, std::uint32_t> former_blocks_;
  std::unordered_map<std::uint32_t, collection::Hash128> former_hashes_;
};

/// The checksums of the frames of files that are not taken by blocks: the next layer compares with
/// them. Thread-safe.
class FrameHashes {
 public:
  void set(std::uint32_t ordinal, const collection::Hash128& hash);
  /// Writes them into the files of `manifest`, which `files` has stored there.
  void store(const FileTable& files, collection::proto::Manifest& manifest) const;

 private:
  mutable Mutex mutex_;
  std::unordered_map<std::uint32_t, collection::Hash128> hashes_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::backup
