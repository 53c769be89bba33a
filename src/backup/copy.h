#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "backup/file_table.h"
#include "backup/frame_reader.h"
#include "backup/pack_ledger.h"
#include "backup/selection.h"
#include "backup/source_changes.h"
#include "base/mutex.h"
#include "base/stop.h"
#include "collection/frame.h"
#include "collection/pack.h"
#include "io/throttle.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// Told what copying does, on its threads; whatever it throws ends the copying.
class CopyObserver {
 public:
  virtual ~CopyObserver() = default;
  /// `bytes` of the plan are dealt with. Once for each frame.
  virtual void frame_done(std::uint64_t bytes) = 0;
  /// One more pack is on storage and in the ledger.
  virtual void pack_stored() = 0;
};

struct CopyRequest {
  LayerPlace place;
  std::filesystem::path data_directory;
  std::filesystem::path outside_root{};  ///< as in PlanRequest
  PageChecksums checksums = PageChecksums::Off;
  collection::Compression compression;
  std::size_t workers = 1;
  io::Throttle& throttle;
};

/// What copying adds to.
struct CopyState {
  FileTable files;
  Selection selection;
  /// By ordinal of the frame: those that need not be copied (any more).
  std::vector<bool> done;
  PackLedger ledger;
  FrameHashes hashes;
  SourceChanges changes;
  std::atomic<std::uint32_t> next_pack{1};
  /// From the files, by copying and by looking at what an earlier attempt had copied.
  std::atomic<std::uint64_t> bytes_read{0};
};

/// What is to be read for all frames that are not done.
std::uint64_t bytes_to_copy(const CopyState& state);

/// Copies all frames that are not done into new packs, with `workers` threads that read and
/// compress and as many that put packs on storage. Memory: two packs a worker, whatever there is to
/// copy. `done` itself is left as it is.
void copy_frames(const CopyRequest& request, CopyState& state, CopyObserver& observer,
                 const Stop& stop);

/// Checks the frames of packs that an earlier attempt finished against the files as they are now:
/// equal ones are marked done, others superseded. Adds the packs to the ledger.
void reuse_packs(const CopyRequest& request, const std::vector<collection::proto::Pack>& packs,
                 CopyState& state, CopyObserver& observer, const Stop& stop);

/// Puts a finished pack on storage and enters it into the ledger.
void store_pack(const LayerPlace& place, const collection::PackBuilder& pack,
                const collection::PackSummary& summary, PackLedger& ledger, const Stop& stop);

}  // namespace holdfast::backup
