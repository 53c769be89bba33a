#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "collection/format.h"

namespace holdfast::collection {

/// XXH3-128 of plain bytes, in canonical (big-endian) order.
struct Hash128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};
Hash128 hash128(ByteView bytes);
/// The 16 bytes of the canonical order, as stored.
std::array<std::byte, 16> to_bytes(const Hash128& hash);
/// From at least 16 bytes.
Hash128 hash_from_bytes(ByteView bytes);

enum class Codec : std::uint8_t {
  None = 0,
  Zstd = 1,
  Lz4 = 2,
  Zero = 3  ///< every byte is zero; nothing is stored
};

/// How a backup compresses: the value of WITH compression.
struct Compression {
  Codec codec = Codec::Zstd;
  int level = 1;  ///< zstd only

  /// "zstd", "zstd:3", "lz4", "none". Throws kInvalidParameterValue for anything else.
  static Compression parse(std::string_view text);
  std::string print() const;
};

/// Some of the blocks of a frame; bit 0 is its first block.
using FrameBlocks = std::bitset<kFrameBlocks>;

/// The blocks that the first `bytes` of a frame touch.
FrameBlocks leading_blocks(std::uint64_t bytes);

/// Where one frame lies in a pack, and what it must be when unpacked.
struct FrameEntry {
  std::uint32_t file_id = 0;
  /// A whole frame is bytes [frame * kFrameBytes, … + plain_bytes) of the file; a partial one holds
  /// only some of the blocks there, whole ones, one after the other.
  std::uint32_t frame = 0;
  std::uint64_t offset = 0;  ///< in the pack
  std::uint32_t stored_bytes = 0;
  std::uint32_t plain_bytes = 0;
  Codec codec = Codec::None;
  Hash128 hash;  ///< of the plain bytes
  bool partial = false;
  FrameBlocks partial_blocks{};  ///< partial only; never empty then

  /// The blocks that it holds.
  FrameBlocks blocks() const { return partial ? partial_blocks : leading_blocks(plain_bytes); }
};

/// Compresses frames; one per thread, reuses its state and buffers.
class FrameEncoder {
 public:
  explicit FrameEncoder(Compression compression);
  ~FrameEncoder();
  FrameEncoder(FrameEncoder&&) noexcept;

  /// The most that encode() may write for a frame of `plain_bytes`.
  std::size_t bound(std::size_t plain_bytes) const;
  /// Compresses `plain` into `out` (at least bound() bytes); fills codec, stored_bytes, plain_bytes
  /// and hash of `entry`. Frames that do not shrink are stored as they are; all-zero ones are not
  /// stored.
  void encode(ByteView plain, MutableByteView out, FrameEntry& entry);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Unpacks and verifies frames; one per thread.
class FrameDecoder {
 public:
  FrameDecoder();
  ~FrameDecoder();
  FrameDecoder(FrameDecoder&&) noexcept;

  /// Fills `plain` (exactly entry.plain_bytes) from `stored` (exactly entry.stored_bytes) and
  /// checks the hash. Throws kDataCorrupted "frame … of …" naming `object` when it does not match.
  void decode(const FrameEntry& entry, ByteView stored, MutableByteView plain,
              std::string_view object);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace holdfast::collection
