#pragma once

#include <functional>
#include <vector>

#include "base/bytes.h"
#include "base/stop.h"
#include "collection/frame.h"
#include "io/aligned_buffer.h"
#include "io/throttle.h"
#include "restore/block_claims.h"
#include "storage/object_store.h"

namespace holdfast::restore {

/// A frame of a pack, with the blocks of it that are to be taken.
struct WantedFrame {
  collection::FrameEntry entry;
  BlockClaims::Claim claim;
  bool of_full = false;  ///< of the full backup, which all other layers follow
  std::size_t slot = 0;  ///< where it goes in a FrameAssembly
};

/// The most stored bytes that a frame may have.
inline constexpr std::uint64_t kMaxRunBytes = 4U << 20;

/// Fetches frames, those that lie close to each other by one request, and unpacks them. One for
/// each thread.
class FrameReader {
 public:
  FrameReader(storage::ObjectStore& store, io::Throttle& throttle)
      : store_(store), throttle_(throttle) {}

  /// Gets the plain bytes of a frame, verified, in memory aligned as OpenFiles wants it.
  using Take = std::function<void(const WantedFrame& frame, MutableByteView plain)>;
  /// Gives each of `wanted`, frames of the pack `key`, to `take`; sorts them by their place in it.
  /// Throws kDataCorrupted or kUndefinedFile, naming the object.
  void read(const storage::ObjectKey& key, std::vector<WantedFrame>& wanted, const Take& take,
            const Stop& stop);

  /// Memory for one frame, aligned alike; the next read() overwrites it.
  MutableByteView buffer() { return plain_.view(); }

 private:
  storage::ObjectStore& store_;
  io::Throttle& throttle_;
  collection::FrameDecoder decoder_;
  Bytes run_ = Bytes(kMaxRunBytes);
  io::AlignedBuffer plain_{collection::kFrameBytes};
};

}  // namespace holdfast::restore
