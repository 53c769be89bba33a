#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/stop.h"
#include "collection/pack.h"
#include "manifest.pb.h"
#include "restore/block_claims.h"
#include "restore/frame_reader.h"
#include "restore/layout.h"
#include "storage/object_store.h"

namespace holdfast::restore {

/// Which layer of a chain each block of the files comes from. The incremental layers are asked
/// first, newest first, and what they have is kept in memory; the full is most of a chain, so its
/// packs are asked one by one while they are read.
class ChainPlan {
 public:
  /// `chain`: as in FillRequest; it, `layout` and `store` outlive the plan. Throws kDataCorrupted
  /// for a manifest without a valid identifier.
  ChainPlan(std::span<const collection::proto::Manifest> chain, const Layout& layout,
            storage::ObjectStore& store);

  /// Reads the indexes of the incremental layers. Before everything below; throws kDataCorrupted
  /// or kUndefinedFile naming the object.
  void read_incrementals(std::size_t workers, const Stop& stop);

  std::size_t full_packs() const { return full_.size(); }
  /// What is to be taken from one of the full's packs, in the order of their places in it. Each may
  /// be asked for once. Thread-safe.
  std::vector<WantedFrame> claim_full_pack(std::size_t number, const Stop& stop);

  /// What incremental layers have of a frame of a file of the layout.
  std::span<const WantedFrame> pieces_of(std::size_t file, std::uint32_t frame) const;

  /// Frames of which the full has nothing, in groups that are worth a task each.
  std::size_t groups() const { return groups_.size(); }
  /// What incremental layers have of each frame in a group.
  std::vector<std::span<const WantedFrame>> frames_of_group(std::size_t group) const;

  const storage::ObjectKey& key(std::size_t pack) const { return packs_[pack].key; }
  std::uint64_t bytes_in_frame(std::size_t file, std::uint32_t frame) const {
    return claims_.bytes_in_frame(file, frame);
  }
  /// Throws kDataCorrupted when no layer holds some block.
  void require_complete() const;

 private:
  struct Pack {
    std::size_t layer = 0;
    const collection::proto::Pack* record = nullptr;
    storage::ObjectKey key;
  };

  /// [first, last) of pieces_.
  struct Frame {
    std::size_t file = 0;
    std::uint32_t frame = 0;
    std::size_t first = 0;
    std::size_t last = 0;
  };

  void add_packs(std::size_t layer, std::vector<std::size_t>& to);
  bool may_be_wanted(const collection::proto::Pack& pack) const;
  std::vector<collection::FrameEntry> read_index(const Pack& pack, const Stop& stop) const;
  void claim(const collection::FrameEntry& entry, std::size_t pack, std::vector<WantedFrame>& to);
  void find_frames();
  void find_groups();

  std::span<const collection::proto::Manifest> chain_;
  const Layout& layout_;
  storage::ObjectStore& store_;
  BlockClaims claims_;
  std::vector<collection::BackupUuid> uuids_;  // of the layers
  std::vector<std::uint32_t> file_ids_;        // of the layout, ascending
  std::vector<Pack> packs_;
  std::vector<std::size_t> full_;          // in packs_
  std::vector<std::size_t> incrementals_;  // in packs_, newest layer first
  std::vector<WantedFrame> pieces_;        // of incremental layers, by file and frame
  std::vector<Frame> frames_;              // that have pieces, likewise
  std::vector<std::size_t> alone_;         // in frames_: the full has nothing of them
  std::vector<std::pair<std::size_t, std::size_t>> groups_;  // [first, last) of alone_
};

}  // namespace holdfast::restore
