#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/stop.h"
#include "restore/chain_plan.h"
#include "restore/frame_reader.h"

namespace holdfast::restore {

/// What incremental layers have of many frames, fetched together and held as it is stored until
/// each frame is put together: a layer's pieces of neighbouring frames are neighbours in its packs,
/// and frame by frame they would be as many requests. Used by one thread.
class PieceBatch {
 public:
  /// The most that is held at a time.
  static constexpr std::size_t kBytes = 8U << 20;

  PieceBatch(const ChainPlan& plan, FrameReader& reader) : plan_(plan), reader_(reader) {}

  void clear();
  /// Whether there is room for all of a frame's pieces. An empty batch takes any frame: what there
  /// is no room for is fetched when its turn comes.
  bool has_room(std::span<const WantedFrame> pieces) const;
  void add(const WantedFrame& piece);
  /// Fetches all that was added.
  void fetch(const Stop& stop);

  /// A piece as it is stored, until the next call of anything here; none if it was not added.
  std::optional<ByteView> stored(const WantedFrame& piece, const Stop& stop);

 private:
  const ChainPlan& plan_;
  FrameReader& reader_;
  std::vector<const WantedFrame*> added_;
  std::size_t used_ = 0;
  std::unique_ptr<std::byte[]> memory_;  // once it is needed
  Bytes single_;
  /// Where each lies in memory_; none: not there.
  std::unordered_map<const WantedFrame*, std::optional<std::size_t>> places_;
};

}  // namespace holdfast::restore
