#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "postgres/lsn.h"
#include "postgres/wal_scope.h"
#include "postgres/wal_segment_content.h"

/// What wal_segment_content and wal_condenser share.
namespace holdfast::postgres {

/// Enough for the headers of a record with all 33 block references, and what decide() sees of its
/// main data.
inline constexpr std::size_t kWalHeadBytes = 2048;

/// Throws kDataCorrupted.
[[noreturn]] void invalid_wal(const WalExtent& extent, Lsn position, std::string_view what);
/// Whether the record, of which these are the first 24 bytes, leaves the rest of its segment
/// unused.
bool is_switch(ByteView header);
/// Whether recovery of the scope replays it.
bool is_wanted(const WalRecordHead& head, const WalScope& scope, int major);
/// Where the record begins that follows one that ends at `end`, a multiple of 8.
Lsn next_record(Lsn end, std::uint64_t wal_segment_bytes);

}  // namespace holdfast::postgres
