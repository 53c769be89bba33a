#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/stop.h"
#include "collection/frame.h"
#include "io/aligned_buffer.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// 16 random bytes that tie packs to their layer, so that one cannot be put in another's place.
using BackupUuid = std::array<std::byte, 16>;

/// What the manifest keeps of a finished pack.
struct PackSummary {
  std::uint32_t number = 0;
  std::uint64_t size = 0;  ///< of the whole object
  std::uint64_t index_offset = 0;
  Hash128 index_hash;
  std::uint32_t frames = 0;
  std::uint64_t plain_bytes = 0;
  std::uint32_t first_file = 0;
  std::uint32_t last_file = 0;
};

/// Collects frames in one buffer until the pack is full. Used by one thread; reset() makes it ready
/// for the next pack without giving up its memory.
class PackBuilder {
 public:
  /// With room for a full pack of a backup.
  PackBuilder();
  /// With room for packs of about `buffer_bytes`; grows when they need more.
  explicit PackBuilder(std::size_t buffer_bytes);

  void reset(std::uint32_t number, const BackupUuid& uuid);
  bool empty() const { return entries_.empty(); }
  /// Whether a frame of `plain_bytes` may not fit any more, so that the pack should be finished
  /// first.
  bool full_for(const FrameEncoder& encoder, std::size_t plain_bytes) const;
  /// Compresses straight into the pack's buffer. Returns the entry (also kept for the index).
  const FrameEntry& add(FrameEncoder& encoder, std::uint32_t file_id, std::uint32_t frame,
                        ByteView plain);
  /// A partial frame: `plain` is its `blocks`, each whole, one after the other.
  const FrameEntry& add_partial(FrameEncoder& encoder, std::uint32_t file_id, std::uint32_t frame,
                                const FrameBlocks& blocks, ByteView plain);
  /// Appends index and trailer.
  PackSummary finish();
  /// The whole object, valid after finish() until reset().
  ByteView bytes() const { return {buffer_.data(), used_}; }
  const std::vector<FrameEntry>& entries() const { return entries_; }

 private:
  const FrameEntry& append(FrameEncoder& encoder, FrameEntry entry, ByteView plain);
  std::uint32_t version() const;

  /// Aligned, so that a store can write it without a copy.
  io::AlignedBuffer buffer_;
  std::size_t used_ = 0;
  std::uint32_t number_ = 0;
  BackupUuid uuid_{};
  std::uint64_t plain_bytes_ = 0;
  std::vector<FrameEntry> entries_;
};

/// Reads and checks a pack's index: trailer magic, hash, uuid, number, every entry inside the pack.
/// Throws kDataCorrupted naming the object, kUndefinedFile when it is missing.
std::vector<FrameEntry> read_pack_index(storage::ObjectStore& store, const storage::ObjectKey& key,
                                        const PackSummary& summary, const BackupUuid& uuid,
                                        const Stop& stop);

/// Reads the index of a pack of which only the key is known (a WAL object, or a pack found on
/// storage): from its trailer.
struct OpenedPack {
  PackSummary summary;
  BackupUuid uuid{};
  std::vector<FrameEntry> entries;
};
OpenedPack open_pack(storage::ObjectStore& store, const storage::ObjectKey& key, const Stop& stop);

}  // namespace holdfast::collection
