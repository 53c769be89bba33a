#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/stop.h"
#include "postgres/connection.h"
#include "postgres/lsn.h"

namespace holdfast::postgres {

/// A physical replication slot, as pg_replication_slots has it.
struct SlotState {
  /// From here on the server keeps WAL; zero when it keeps none (any more).
  Lsn restart{};
  /// "reserved", "extended", "unreserved", "lost"; empty while nothing is reserved.
  std::string wal_status;
};

/// Up to where a server's WAL is safe on its disk.
struct WalPosition {
  std::uint64_t system_identifier = 0;
  TimelineId timeline = 0;
  Lsn flushed{};
  /// Behind every record that a primary has made, flushed or not; absent for a standby.
  std::optional<Lsn> inserted;
  std::uint64_t wal_segment_bytes = 0;
  /// max_slot_wal_keep_size in bytes; absent when unlimited.
  std::optional<std::uint64_t> slot_limit;
  std::optional<SlotState> slot;  ///< of the name that was asked for
};

/// Asks a primary, or a standby that streams (then what it has received). Absent for a standby that
/// receives nothing now, whose position nobody but itself knows. One round trip.
std::optional<WalPosition> wal_position(Connection& connection, const std::string& slot,
                                        const Stop& stop);

/// Lets the server recycle WAL before `lsn`. Going back is ignored.
void advance_physical_slot(Connection& connection, const std::string& name, Lsn lsn,
                           const Stop& stop);

}  // namespace holdfast::postgres
