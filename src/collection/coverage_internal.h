#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "collection/frame.h"
#include "manifest.pb.h"

namespace holdfast::collection {

/// The positions in a pack's index that do not count, as one flag for each entry.
std::vector<bool> superseded_frames(const proto::Pack& pack, std::size_t frames);

/// Whether the layers of a chain together hold each block of each file, as a restore needs it.
/// Layers are given oldest first; add() may be called by several threads.
class Coverage {
 public:
  void begin(const proto::Manifest& layer);
  /// What is wrong with a pack of the layer; empty when nothing is.
  std::string add(const proto::Pack& pack, const std::vector<FrameEntry>& entries);
  /// For when every pack of the layer was added: what neither it nor an earlier layer holds; empty
  /// when nothing is missing.
  std::string find_missing() const;

 private:
  struct FileState {
    std::uint64_t size = 0;
    std::vector<FrameBlocks> held;  // of each frame, by this layer or one before
    std::vector<bool> in_layer;     // frames that this layer holds
  };

  const proto::Manifest* layer_ = nullptr;
  std::uint64_t stored_frames_ = 0;  // of all layers so far
  bool impossible_ = false;          // the manifest lists more than there can be
  mutable Mutex mutex_;
  std::unordered_map<std::uint32_t, FileState> files_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::collection
