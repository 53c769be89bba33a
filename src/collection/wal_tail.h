#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/stop.h"
#include "collection/wal_archive.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// The beginning of a WAL segment that PostgreSQL still writes, kept until the whole segment is
/// archived: "wal/<system identifier>/<timeline>/<segment>.<inverted length>.partial". Nothing is
/// overwritten; of several the longest counts, and sorts first.
storage::ObjectKey wal_tail_key(const WalSegmentId& id, std::uint64_t bytes);

/// Puts the segment's first `bytes`. At most kWalPartBytes (a longer tail would be more than one
/// object): returns false, and puts nothing, beyond that.
bool put_wal_tail(storage::ObjectStore& store, const WalSegmentId& id, std::uint64_t bytes,
                  const ReadWal& read, const Compression& compression, const Stop& stop);

/// Lengths of the tails of a segment, longest first.
std::vector<std::uint64_t> list_wal_tails(storage::ObjectStore& store, const WalSegmentId& id,
                                          const Stop& stop);

/// The tail of that length; false when there is none. Every frame is verified.
bool get_wal_tail(storage::ObjectStore& store, const WalSegmentId& id, std::uint64_t bytes,
                  const WalWriter& write, const Stop& stop);

/// Removes the segment's tails shorter than `bytes`. A store that refuses to remove (write-once)
/// costs room, nothing else: the failure is logged.
void remove_wal_tails(storage::ObjectStore& store, const WalSegmentId& id, std::uint64_t bytes,
                      const Stop& stop);

}  // namespace holdfast::collection
