#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "storage/object_store.h"

namespace holdfast::collection {

/// 16 hexadecimal digits of the complement, so that a later number has an earlier name.
std::string inverted_hex(std::uint64_t number);
/// Absent when `text` is not what inverted_hex() prints.
std::optional<std::uint64_t> parse_inverted_hex(std::string_view text);

/// Key of one object of a WAL segment: wal_key() for part 0, "….<part>.wal" for the others.
storage::ObjectKey wal_part_key(std::uint64_t system_identifier, std::uint32_t timeline,
                                std::uint64_t segment, std::uint64_t wal_segment_bytes,
                                std::uint32_t part);
/// "wal/<system identifier>/ARCHIVE"
storage::ObjectKey wal_archive_mark_key(std::uint64_t system_identifier);
/// "wal/<system identifier>/<8 hex timeline>"
storage::ObjectKey wal_timeline_directory(std::uint64_t system_identifier, std::uint32_t timeline);
/// "wal/<system identifier>/<8 hex timeline>.history"
storage::ObjectKey history_key(std::uint64_t system_identifier, std::uint32_t timeline);

}  // namespace holdfast::collection
