#include "postgres/catalog_pages.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/error.h"
#include "postgres/crc32c.h"
#include "postgres/page.h"
#include "postgres/versions.h"

namespace holdfast::postgres {
namespace {

constexpr std::uint32_t kMapMagic = 0x592717;
constexpr std::size_t kMapEntriesOffset = 8;

// Source: PostgreSQL src/include/storage/bufpage.h, itemid.h, access/htup_details.h.
constexpr std::size_t kLowerOffset = 12;
constexpr std::uint32_t kLinePointerNormal = 1;
constexpr std::size_t kTupleHeaderOffset = 22;  // t_hoff
constexpr std::size_t kTupleHeaderBytes = 23;

constexpr std::size_t kNameBytes = 64;
constexpr std::size_t kClassFileOffset = 4 + kNameBytes + 5 * 4;
/// Behind the file: tablespace, three counts (four since 18, with relallfrozen), TOAST, two flags
/// and the persistence.
constexpr std::size_t kClassKindOffset = kClassFileOffset + 4 + 5 * 4 + 3;
constexpr int kCountsFrozenPages = 18;
constexpr std::size_t kClassSchemaOffset = 4 + kNameBytes;
constexpr std::size_t kInheritsBytes = 4 + 4;

std::string_view name_at(ByteView row, std::size_t offset) {
  const std::string_view name = as_text(row.subspan(offset, kNameBytes));
  return name.substr(0, name.find('\0'));
}

/// Calls `visit` with the row data of every tuple that is at least `least` bytes long.
void scan_heap(ByteView pages, std::size_t least, const std::function<void(ByteView)>& visit) {
  for (; pages.size() >= kPageBytes; pages = pages.subspan(kPageBytes)) {
    const ByteView page = pages.first(kPageBytes);
    const std::size_t lower = load<std::uint16_t>(page, kLowerOffset);
    if (lower > kPageBytes) continue;
    for (std::size_t at = kPageHeaderBytes; at + 4 <= lower; at += 4) {
      const auto pointer = load<std::uint32_t>(page, at);
      const std::size_t offset = pointer & 0x7FFF;
      const std::size_t length = pointer >> 17;
      if (((pointer >> 15) & 3) != kLinePointerNormal || offset + length > kPageBytes ||
          length < kTupleHeaderBytes) {
        continue;
      }
      const ByteView tuple = page.subspan(offset, length);
      const std::size_t header = load<std::uint8_t>(tuple, kTupleHeaderOffset);
      if (header + least <= length) visit(tuple.subspan(header));
    }
  }
}

}  // namespace

std::map<std::uint32_t, std::uint32_t> parse_relation_map(ByteView bytes, int major) {
  const VersionFacts& facts = version_facts(major);
  const auto crc_offset =
      kMapEntriesOffset + static_cast<std::size_t>(facts.filenode_map_slots) * 8;
  if (bytes.size() < crc_offset + 4 || load<std::uint32_t>(bytes, 0) != kMapMagic ||
      crc32c(bytes.first(crc_offset)) != load<std::uint32_t>(bytes, crc_offset)) {
    throw Error(sqlstate::kDataCorrupted, "relation map in the backup is damaged");
  }
  const auto count =
      std::min(load<std::uint32_t>(bytes, 4), static_cast<std::uint32_t>(facts.filenode_map_slots));
  std::map<std::uint32_t, std::uint32_t> files;
  for (std::size_t i = 0; i < count; ++i) {
    files[load<std::uint32_t>(bytes, kMapEntriesOffset + i * 8)] =
        load<std::uint32_t>(bytes, kMapEntriesOffset + i * 8 + 4);
  }
  return files;
}

void scan_pg_class(ByteView pages, int major, const std::function<void(const ClassRow&)>& visit) {
  const std::size_t kind = kClassKindOffset + (major >= kCountsFrozenPages ? 4 : 0);
  scan_heap(pages, kind + 1, [&](ByteView row) {
    visit({.oid = load<std::uint32_t>(row, 0),
           .schema = load<std::uint32_t>(row, kClassSchemaOffset),
           .file = load<std::uint32_t>(row, kClassFileOffset),
           .kind = static_cast<char>(load<std::uint8_t>(row, kind)),
           .name = name_at(row, 4)});
  });
}

void scan_pg_inherits(ByteView pages, const std::function<void(const InheritsRow&)>& visit) {
  scan_heap(pages, kInheritsBytes, [&](ByteView row) {
    visit({.child = load<std::uint32_t>(row, 0), .parent = load<std::uint32_t>(row, 4)});
  });
}

void scan_pg_authid(ByteView pages, const std::function<void(const RoleRow&)>& visit) {
  scan_heap(pages, 4 + kNameBytes, [&](ByteView row) {
    visit({.oid = load<std::uint32_t>(row, 0), .name = std::string(name_at(row, 4))});
  });
}

std::optional<std::uint32_t> toasted_table(std::string_view name) {
  constexpr std::string_view kPrefix = "pg_toast_";
  constexpr std::string_view kOfIndex = "_index";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  if (name.ends_with(kOfIndex)) name.remove_suffix(kOfIndex.size());
  std::uint32_t oid = 0;
  const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), oid);
  if (failure != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return oid;
}

}  // namespace holdfast::postgres
