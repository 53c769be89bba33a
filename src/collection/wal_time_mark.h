#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/stop.h"
#include "postgres/lsn.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// Says that every transaction which committed before `time` has its commit record before `lsn`,
/// and that the archive holds WAL up to there: without it an archive of a server that is idle, and
/// one that ended, look the same. The object's name says it all:
/// "wal/<system identifier>/<timeline>/<inverted time>.<lsn>.time".
struct WalTimeMark {
  Time time;  ///< not before 1970
  postgres::Lsn lsn;
};

/// Puts a mark and removes those that it replaces, `earlier`; a store that refuses to remove
/// (write-once) costs room, nothing else.
void put_wal_time_mark(storage::ObjectStore& store, std::uint64_t system_identifier,
                       postgres::TimelineId timeline, const WalTimeMark& mark,
                       const std::optional<WalTimeMark>& earlier, const Stop& stop);

/// From the name of an object in a timeline's directory; absent for others.
std::optional<WalTimeMark> parse_wal_time_mark(std::string_view name);

}  // namespace holdfast::collection
