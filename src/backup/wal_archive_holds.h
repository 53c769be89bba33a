#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

#include "backup/wal_holds.h"
#include "base/stop.h"
#include "postgres/timeline_path.h"
#include "postgres/wal_position.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// The holds on an archive's slot, as its job looks after them. Used by one thread.
class WalArchiveHolds {
 public:
  explicit WalArchiveHolds(WalHolds holds) : holds_(std::move(holds)) {}

  /// From here on the server keeps WAL: for an archive that needs it from `durable` on, and for
  /// backups that have asked for more.
  postgres::Lsn kept_from(postgres::Lsn durable, const postgres::TimelinePath& path) const;

  /// Drops those that would make the server keep more than it may (`keep_limit` bytes, 0: no
  /// bound), and those of another history, which the server has left. Whether there was one.
  bool drop_lapsed(const postgres::WalPosition& position, const postgres::TimelinePath& path,
                   std::uint64_t keep_limit);

  /// Looks about once a minute. Failures of the store are none of this.
  void drop_of_deleted_chains(storage::ObjectStore& store, const Stop& stop);

 private:
  WalHolds holds_;
  std::chrono::steady_clock::time_point last_look_{};
};

}  // namespace holdfast::backup
