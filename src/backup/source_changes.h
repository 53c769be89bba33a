#pragma once

#include <cstdint>
#include <map>
#include <set>

#include "backup/file_table.h"
#include "backup/pack_ledger.h"
#include "base/mutex.h"
#include "postgres/relation_path.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// What was seen while copying that the plan did not say. Thread-safe.
///
/// Only files that PostgreSQL changed after the backup's start LSN are seen gone or shorter, so
/// replay of the backup's WAL drops or truncates them again, or makes them anew. That is why a
/// vanished file is left out and a truncated one is kept as long as it was read.
class SourceChanges {
 public:
  void gone(std::size_t position);
  bool is_gone(std::size_t position) const;
  /// The file was seen to end at or before `end`.
  void shortened(std::size_t position, std::uint64_t end);
  /// The file was read as one frame, of `size` bytes.
  void grown(std::size_t position, std::uint64_t size);
  /// Throws kDataCorrupted when there are more than any backup could report.
  void suspect(const std::vector<postgres::BlockKey>& blocks);

  bool any_file_changed() const;
  std::set<postgres::BlockKey> suspects() const;
  /// Marks vanished files and corrects sizes. For after the copying.
  void apply(FileTable& files) const;

 private:
  mutable Mutex mutex_;
  std::set<std::size_t> gone_ HF_GUARDED_BY(mutex_);
  std::map<std::size_t, std::uint64_t> shortened_ HF_GUARDED_BY(mutex_);
  std::map<std::size_t, std::uint64_t> grown_ HF_GUARDED_BY(mutex_);
  std::set<postgres::BlockKey> suspects_ HF_GUARDED_BY(mutex_);
};

/// Where a layer's packs are.
struct LayerPlace {
  storage::ObjectStore& store;
  std::string directory;  ///< the layer's subdirectory
  collection::BackupUuid uuid;
};

/// Marks the frames of finished packs that belong to vanished files, or lie beyond the end of
/// truncated ones, as superseded. `files` has the changes applied.
void supersede_changed(const LayerPlace& place, const FileTable& files, PackLedger& ledger,
                       const Stop& stop);

}  // namespace holdfast::backup
