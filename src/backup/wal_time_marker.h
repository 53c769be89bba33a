#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "base/stop.h"
#include "collection/wal_time_mark.h"
#include "postgres/lsn.h"
#include "postgres/wal_position.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// Lets an archive say from time to time that it has all that was committed up to then, so that
/// moments of an idle server can be restored. Used by one thread, on one timeline.
class WalTimeMarker {
 public:
  WalTimeMarker(std::uint64_t system_identifier, std::chrono::milliseconds interval)
      : system_identifier_(system_identifier), interval_(interval) {}

  /// `position` was asked for at `asked` and everything before `archived` is in the archive, which
  /// keeps it under `timeline`. A standby, which does not know what its primary committed, gets no
  /// mark; nor does a server that is behind its archive, which has another history then.
  void mark(storage::ObjectStore& store, const postgres::WalPosition& position, Time asked,
            postgres::Lsn archived, postgres::TimelineId timeline, Time now, const Stop& stop);

 private:
  std::uint64_t system_identifier_;
  std::chrono::milliseconds interval_;
  std::optional<collection::WalTimeMark> next_;  // waits for its WAL to be archived
  std::optional<collection::WalTimeMark> last_;
  Time last_time_;
};

}  // namespace holdfast::backup
