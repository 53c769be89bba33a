#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "postgres/lsn.h"

namespace holdfast::postgres {

/// The only block size that holdfast supports (PostgreSQL's default BLCKSZ).
inline constexpr std::size_t kPageBytes = 8192;
/// RELSEG_SIZE of a default build: a relation segment is 1 GiB.
inline constexpr std::uint32_t kRelationSegmentBlocks = 131072;
/// Source: PostgreSQL src/include/storage/bufpage.h (SizeOfPageHeaderData).
inline constexpr std::size_t kPageHeaderBytes = 24;

/// Source: PostgreSQL src/include/storage/bufpage.h (PageHeaderData).
struct PageHeader {
  Lsn lsn;
  std::uint16_t checksum = 0;
  std::uint16_t flags = 0;
  std::uint16_t lower = 0;    ///< start of free space
  std::uint16_t upper = 0;    ///< end of free space; 0 on a page never initialised
  std::uint16_t special = 0;  ///< start of the access method's own space
  std::uint16_t size_and_version = 0;
  std::uint32_t prune_xid = 0;
};

/// In `flags` of a table's page: every row on it is visible to everybody.
/// Source: PostgreSQL src/include/storage/bufpage.h (PD_ALL_VISIBLE).
inline constexpr std::uint16_t kPageAllVisible = 0x0004;

/// `page` is kPageBytes long.
PageHeader parse_page_header(ByteView page);

/// Whether every byte is zero: a page that the relation was extended by and never written.
bool page_is_zero(ByteView page);

/// The checksum that `page` (kPageBytes long) should carry at `block`, the block number within the
/// relation fork. The stored checksum field counts as zero.
/// Source: PostgreSQL src/include/storage/checksum_impl.h (pg_checksum_page).
std::uint16_t page_checksum(ByteView page, std::uint32_t block);

/// Verifies pages that lie one after the other: `pages` is a multiple of kPageBytes, its first page
/// is block `first_block` of the fork (segment number * kRelationSegmentBlocks + block in the
/// file). Appends the block numbers whose checksum is wrong to `bad`. A page that was never
/// initialised (pd_upper is 0) has no checksum; it is right only when it is zero throughout.
/// Source: PostgreSQL src/backend/storage/page/bufpage.c (PageIsVerified).
void verify_pages(ByteView pages, std::uint32_t first_block, std::vector<std::uint32_t>& bad);

/// The same for one page.
bool page_is_valid(ByteView page, std::uint32_t block);

}  // namespace holdfast::postgres
