#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/stop.h"
#include "io/file_system.h"
#include "manifest.pb.h"
#include "restore/layout.h"
#include "storage/object_store.h"

namespace holdfast::restore {

/// Makes the directories and links of a layout, and the files at their full size, with their modes
/// whatever the umask is. What is there already is kept if it is of the right type; files get the
/// right size. Returns, for each file of the layout, whether it may hold content that is worth
/// looking at. The control file is not made.
std::vector<bool> create_files(const Layout& layout, io::FileSystem& files, std::size_t workers,
                               const Stop& stop);

/// Removes what is below the layout's root and in its tablespaces' version directories but not in
/// the layout, and the control file, durably: what is being changed must not be started.
void remove_other_files(const Layout& layout, io::FileSystem& files, const Stop& stop);

struct FillRequest {
  /// The layer that is restored and those that it continues, oldest first. Of all but the last only
  /// place, identifier and packs are needed.
  std::span<const collection::proto::Manifest> chain;
  const Layout& layout;
  /// What create_files() returned.
  const std::vector<bool>& may_hold_content;
  /// Whether what the files hold counts when its checksum is right. If not, all is written again.
  bool trust_content = true;
  storage::ObjectStore& store;
  io::FileSystem& files;
  std::size_t workers = 1;
  /// LSN up to which WAL is needed where it goes on behind the layer: of its last segment a
  /// beginning will do. 0: all segments are whole.
  std::uint64_t wal_end = 0;
  std::uint64_t max_rate = 0;  ///< bytes per second of restored files; 0: no limit
  /// From any worker: so many more bytes are in place.
  std::function<void(std::uint64_t bytes)> progress;
  /// From any worker, before each pack.
  std::function<void()> before_pack;
};

/// Fills the files from the packs, each block from the newest layer that holds it, every frame
/// verified, and pg_wal from the WAL archive. A frame is fetched at most once; those that are in
/// place already, or of which newer layers hold all blocks, are neither fetched nor written.
/// Returns the content of the control file, which is left to be written last. Throws kDataCorrupted
/// for a damaged or incomplete backup, naming the object.
Bytes fill_files(const FillRequest& request, const Stop& stop);

}  // namespace holdfast::restore
