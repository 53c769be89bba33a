#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/stop.h"
#include "collection/frame.h"
#include "io/throttle.h"
#include "restore/block_claims.h"
#include "storage/object_store.h"

namespace holdfast::restore {

/// A frame of a pack, with the blocks of it that are to be taken.
struct WantedFrame {
  collection::FrameEntry entry;
  BlockClaims::Claim claim;
  std::size_t pack = 0;  ///< for ChainPlan::key()
};

/// The most stored bytes that a frame may have.
inline constexpr std::uint64_t kMaxStoredBytes = 4U << 20;

/// Fetches frames, those that lie close to each other by one request, and unpacks them. One for
/// each thread.
class FrameReader {
 public:
  FrameReader(storage::ObjectStore& store, io::Throttle& throttle)
      : store_(store), throttle_(throttle) {}

  /// Gets a frame as it is stored, in memory that the next request overwrites.
  using Take = std::function<void(const WantedFrame& frame, ByteView stored)>;
  /// Fetches `wanted`, frames of the pack `key`, in the order of their places in it, and gives each
  /// to `take`, which must not fetch() itself. Throws kUndefinedFile, naming the object.
  void fetch(const storage::ObjectKey& key, std::span<const WantedFrame* const> wanted,
             const Take& take, const Stop& stop);

  /// Fetches one frame into `into`, which is just as large; also within fetch().
  void fetch_one(const storage::ObjectKey& key, const WantedFrame& wanted, MutableByteView into,
                 const Stop& stop);

  /// Unpacks a frame into `plain` (exactly entry.plain_bytes) and verifies it. Throws
  /// kDataCorrupted, naming the object.
  void unpack(const storage::ObjectKey& key, const WantedFrame& frame, ByteView stored,
              MutableByteView plain, const Stop& stop);

 private:
  void get(const storage::ObjectKey& key, std::uint64_t offset, MutableByteView into,
           const Stop& stop);

  storage::ObjectStore& store_;
  io::Throttle& throttle_;
  collection::FrameDecoder decoder_;
  Bytes run_ = Bytes(kMaxStoredBytes);
};

}  // namespace holdfast::restore
