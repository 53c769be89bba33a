#include "postgres/versions.h"

#include <fmt/core.h>

#include "base/error.h"

namespace holdfast::postgres {
namespace {

constexpr VersionFacts kVersions[] = {
    {.major = 13,
     .wal_page_magic = 0xD106,
     .control_version = 1300,
     .catalog_version = 202007201,
     .image_apply_bit = 0x04,
     .image_compressed_bits = 0x02,
     .has_toplevel_xid = false,
     .dbase_create_file_copy = 0x00,
     .dbase_drop = 0x10,
     .filenode_map_slots = 62,
     .filenode_map_bytes = 512,
     .has_pg_backup_start = false},
    {.major = 14,
     .wal_page_magic = 0xD10D,
     .control_version = 1300,
     .catalog_version = 202107181,
     .image_apply_bit = 0x04,
     .image_compressed_bits = 0x02,
     .has_toplevel_xid = true,
     .dbase_create_file_copy = 0x00,
     .dbase_drop = 0x10,
     .filenode_map_slots = 62,
     .filenode_map_bytes = 512,
     .has_pg_backup_start = false},
    {.major = 15,
     .wal_page_magic = 0xD110,
     .control_version = 1300,
     .catalog_version = 202209061,
     .image_apply_bit = 0x02,
     .image_compressed_bits = 0x1C,
     .has_toplevel_xid = true,
     .dbase_create_file_copy = 0x00,
     .dbase_drop = 0x20,
     .filenode_map_slots = 62,
     .filenode_map_bytes = 512,
     .has_pg_backup_start = true},
    {.major = 16,
     .wal_page_magic = 0xD113,
     .control_version = 1300,
     .catalog_version = 202307071,
     .image_apply_bit = 0x02,
     .image_compressed_bits = 0x1C,
     .has_toplevel_xid = true,
     .dbase_create_file_copy = 0x00,
     .dbase_drop = 0x20,
     .filenode_map_slots = 64,
     .filenode_map_bytes = 524,
     .has_pg_backup_start = true},
    {.major = 17,
     .wal_page_magic = 0xD116,
     .control_version = 1700,
     .catalog_version = 202406281,
     .image_apply_bit = 0x02,
     .image_compressed_bits = 0x1C,
     .has_toplevel_xid = true,
     .dbase_create_file_copy = 0x00,
     .dbase_drop = 0x20,
     .filenode_map_slots = 64,
     .filenode_map_bytes = 524,
     .has_pg_backup_start = true},
    {.major = 18,
     .wal_page_magic = 0xD118,
     .control_version = 1800,
     .catalog_version = 202506291,
     .image_apply_bit = 0x02,
     .image_compressed_bits = 0x1C,
     .has_toplevel_xid = true,
     .dbase_create_file_copy = 0x00,
     .dbase_drop = 0x20,
     .filenode_map_slots = 64,
     .filenode_map_bytes = 524,
     .has_pg_backup_start = true},
};
static_assert(kVersions[0].major == kOldestMajor);
static_assert(std::size(kVersions) == kNewestMajor - kOldestMajor + 1);

template <typename Predicate>
const VersionFacts* find(Predicate predicate) {
  for (const auto& facts : kVersions) {
    if (predicate(facts)) return &facts;
  }
  return nullptr;
}

}  // namespace

std::span<const VersionFacts> all_versions() { return kVersions; }

const VersionFacts& version_facts(int major) {
  if (const auto* facts = find([&](const auto& f) { return f.major == major; })) return *facts;
  throw Error(sqlstate::kFeatureNotSupported,
              fmt::format("PostgreSQL version {} is not supported", major))
      .detail(fmt::format("This build of holdfast knows the files of PostgreSQL {} to {}.",
                          kOldestMajor, kNewestMajor));
}

const VersionFacts* find_version_by_wal_magic(std::uint16_t magic) {
  return find([&](const auto& f) { return f.wal_page_magic == magic; });
}

const VersionFacts* find_version_by_control(std::uint32_t control_version,
                                            std::uint32_t catalog_version) {
  return find([&](const auto& f) {
    return f.control_version == control_version && f.catalog_version == catalog_version;
  });
}

}  // namespace holdfast::postgres
