#pragma once

#include <cstdint>
#include <span>

namespace holdfast::postgres {

/// What differs between the bytes of PostgreSQL's major versions.
/// Source: PostgreSQL REL_13 to REL_18, src/include/access/xlog_internal.h (XLOG_PAGE_MAGIC),
/// catalog/pg_control.h (PG_CONTROL_VERSION), catalog/catversion.h (CATALOG_VERSION_NO),
/// access/xlogrecord.h, commands/dbcommands_xlog.h, utils/cache/relmapper.c.
struct VersionFacts {
  int major;
  std::uint16_t wal_page_magic;
  std::uint32_t control_version;
  std::uint32_t catalog_version;
  /// Bits of bimg_info. Before 15 one bit said "compressed (pglz)" and the next one "apply".
  std::uint8_t image_apply_bit;
  std::uint8_t image_compressed_bits;
  /// Whether a WAL record may carry its top-level transaction id (block id 252).
  bool has_toplevel_xid;
  /// XLOG_DBASE_* info values.
  std::uint8_t dbase_create_file_copy;
  std::uint8_t dbase_drop;
  /// Slots of pg_filenode.map and its size.
  int filenode_map_slots;
  int filenode_map_bytes;
  /// pg_backup_start/pg_backup_stop (15) or pg_start_backup/pg_stop_backup.
  bool has_pg_backup_start;
};

inline constexpr int kOldestMajor = 13;
inline constexpr int kNewestMajor = 18;

/// All supported versions, oldest first.
std::span<const VersionFacts> all_versions();
/// Throws kFeatureNotSupported "PostgreSQL version 12 is not supported" for any other version.
const VersionFacts& version_facts(int major);
/// Null when no supported version has it.
const VersionFacts* find_version_by_wal_magic(std::uint16_t magic);
/// Null when no supported version has this pair (a development or unknown version).
const VersionFacts* find_version_by_control(std::uint32_t control_version,
                                            std::uint32_t catalog_version);

/// 15 for server_version_num 150018.
constexpr int major_of(int server_version_num) { return server_version_num / 10000; }

}  // namespace holdfast::postgres
