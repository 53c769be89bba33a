#include "postgres/page_mask.h"

#include <algorithm>

#include "base/assert.h"
#include "postgres/page.h"

namespace holdfast::postgres {
namespace {

// Header offsets and flags. Source: PostgreSQL src/include/storage/bufpage.h.
constexpr std::size_t kLsn = 0;
constexpr std::size_t kChecksum = 8;
constexpr std::size_t kFlags = 10;
constexpr std::size_t kLower = 12;
constexpr std::size_t kUpper = 14;
constexpr std::size_t kPruneXid = 20;
constexpr std::uint16_t kHintFlags = 0x0001 | 0x0002 | 0x0004;  // free lines, full, all visible

// Line pointers: 15 bits offset, 2 bits flags, 15 bits length. Source: storage/itemid.h.
constexpr std::size_t kItemBytes = 4;
constexpr std::uint32_t kItemNormal = 1;

// Heap tuples. Source: access/htup_details.h.
constexpr std::size_t kTupleCid = 8;
constexpr std::size_t kTupleCtid = 12;
constexpr std::size_t kTupleInfomask = 20;
constexpr std::size_t kMaskedTupleHeaderBytes = 23;
constexpr std::uint16_t kXactMask = 0xFFF0;
constexpr std::uint16_t kXminFrozen = 0x0300;
constexpr std::uint16_t kXmaxHints = 0x0400 | 0x0800;
constexpr std::uint16_t kSpeculativeOffset = 0xFFFE;

// Special spaces, at the page's end.
constexpr std::uint16_t kMaxBtreeCycleId = 0xFF7F;
constexpr std::uint16_t kHashPageId = 0xFF80;
constexpr std::uint16_t kGistPageId = 0xFF81;
constexpr std::uint16_t kSpGistPageId = 0xFF82;
constexpr std::uint16_t kBrinMeta = 0xF091;
constexpr std::uint16_t kBrinRegular = 0xF093;
constexpr std::uint32_t kSequenceMagic = 0x1717;
constexpr std::uint16_t kMaxGinFlags = 0x00FF;
constexpr std::size_t kLargeSpecial = 16;
constexpr std::size_t kSmallSpecial = 8;

void clear_bits(MutableByteView page, std::size_t offset, std::uint16_t bits) {
  store<std::uint16_t>(page, offset,
                       static_cast<std::uint16_t>(load<std::uint16_t>(page, offset) & ~bits));
}

void zero(MutableByteView page, std::size_t offset, std::size_t bytes) {
  std::fill_n(page.begin() + static_cast<std::ptrdiff_t>(offset), bytes, std::byte{0});
}

void mask_hole(MutableByteView page, const PageHeader& header) {
  zero(page, header.lower, std::size_t{header.upper} - header.lower);
}

// Everything but the header's other fields.
void mask_content(MutableByteView page) {
  zero(page, kPageHeaderBytes, kPageBytes - kPageHeaderBytes);
  zero(page, kLower, sizeof(std::uint16_t));
  zero(page, kUpper, sizeof(std::uint16_t));
}

std::size_t item_count(const PageHeader& header) {
  return (header.lower - kPageHeaderBytes) / kItemBytes;
}

void mask_item_flags(MutableByteView page, const PageHeader& header) {
  constexpr std::uint32_t kFlagBits = 3U << 15;
  for (std::size_t i = 0; i < item_count(header); ++i) {
    const std::size_t at = kPageHeaderBytes + i * kItemBytes;
    store<std::uint32_t>(page, at, load<std::uint32_t>(page, at) & ~kFlagBits);
  }
}

void mask_tuple(MutableByteView tuple, std::uint32_t block, std::uint16_t number) {
  const auto infomask = load<std::uint16_t>(tuple, kTupleInfomask);
  clear_bits(tuple, kTupleInfomask,
             (infomask & kXminFrozen) == kXminFrozen ? kXmaxHints : kXactMask);
  // Replay sets the first command's number.
  zero(tuple, kTupleCid, sizeof(std::uint32_t));
  if (load<std::uint16_t>(tuple, kTupleCtid + 4) == kSpeculativeOffset) {
    store<std::uint16_t>(tuple, kTupleCtid, static_cast<std::uint16_t>(block >> 16));
    store<std::uint16_t>(tuple, kTupleCtid + 2, static_cast<std::uint16_t>(block));
    store<std::uint16_t>(tuple, kTupleCtid + 4, number);
  }
}

void mask_heap(MutableByteView page, const PageHeader& header, std::uint32_t block) {
  for (std::size_t i = 0; i < item_count(header); ++i) {
    const auto item = load<std::uint32_t>(page, kPageHeaderBytes + i * kItemBytes);
    const std::size_t offset = item & 0x7FFF;
    const std::uint32_t flags = item >> 15 & 3;
    const std::size_t bytes = item >> 17;
    // Line pointers that point anywhere else are left to compare as they are.
    if (bytes == 0 || offset < header.upper || offset + bytes > header.special) continue;
    if (flags == kItemNormal && bytes >= kMaskedTupleHeaderBytes) {
      mask_tuple(page.subspan(offset, bytes), block, static_cast<std::uint16_t>(i + 1));
    }
    const std::size_t end = offset + bytes;
    zero(page, end, std::min<std::size_t>((end + 7) / 8 * 8, header.special) - end);
  }
}

// Source: nbtxlog.c (btree_mask). Since 14 the content of deleted pages is the same after replay
// too; it is left out for all versions.
void mask_btree(MutableByteView page, const PageHeader& header) {
  constexpr std::uint16_t kLeaf = 1U << 0;
  constexpr std::uint16_t kDeleted = 1U << 2;
  constexpr std::uint16_t kSplitEnd = 1U << 5;
  constexpr std::uint16_t kHasGarbage = 1U << 6;
  const std::size_t flags_at = header.special + std::size_t{12};
  const auto flags = load<std::uint16_t>(page, flags_at);
  if ((flags & kDeleted) != 0) {
    mask_content(page);
    return;
  }
  mask_hole(page, header);
  if ((flags & kLeaf) != 0) mask_item_flags(page, header);
  clear_bits(page, flags_at, kHasGarbage | kSplitEnd);
  zero(page, flags_at + 2, sizeof(std::uint16_t));  // the vacuum cycle's number
}

// Source: hash_xlog.c (hash_mask).
void mask_hash(MutableByteView page, const PageHeader& header) {
  constexpr std::uint16_t kOverflow = 1U << 0;
  constexpr std::uint16_t kBucket = 1U << 1;
  constexpr std::uint16_t kPageType = 0x000F;
  constexpr std::uint16_t kHasDeadTuples = 1U << 7;
  const std::size_t flags_at = header.special + std::size_t{12};
  const std::uint16_t type = load<std::uint16_t>(page, flags_at) & kPageType;
  if (type == 0) {
    mask_content(page);
    return;
  }
  mask_hole(page, header);
  if (type == kBucket || type == kOverflow) mask_item_flags(page, header);
  clear_bits(page, flags_at, kHasDeadTuples);
}

// Source: gistxlog.c (gist_mask). The node sequence number is a kind of LSN.
void mask_gist(MutableByteView page, const PageHeader& header) {
  constexpr std::uint16_t kLeaf = 1U << 0;
  constexpr std::uint16_t kFollowRight = 1U << 3;
  constexpr std::uint16_t kHasGarbage = 1U << 4;
  const std::size_t flags_at = header.special + std::size_t{12};
  mask_hole(page, header);
  if ((load<std::uint16_t>(page, flags_at) & kLeaf) != 0) mask_item_flags(page, header);
  zero(page, header.special, sizeof(std::uint64_t));
  clear_bits(page, flags_at, kFollowRight | kHasGarbage);
}

// Source: ginxlog.c (gin_mask).
void mask_gin(MutableByteView page, const PageHeader& header) {
  constexpr std::uint16_t kDeleted = 1U << 2;
  const auto flags = load<std::uint16_t>(page, header.special + std::size_t{6});
  if ((flags & kDeleted) != 0) {
    mask_content(page);
  } else if (header.lower > kPageHeaderBytes) {
    mask_hole(page, header);
  }
}

// Source: brin_xlog.c (brin_mask).
void mask_brin(MutableByteView page, const PageHeader& header) {
  constexpr std::uint16_t kEvacuate = 1U << 0;
  const auto type = load<std::uint16_t>(page, kPageBytes - 2);
  if (type == kBrinRegular || (type == kBrinMeta && header.lower > kPageHeaderBytes)) {
    mask_hole(page, header);
  }
  clear_bits(page, kPageBytes - 4, kEvacuate);
}

// The metapage's list of pages with room is a hint that is never logged; the magic number before it
// stays. Source: src/include/access/spgist_private.h (SpGistMetaPageData), spgxlog.c (spg_mask).
void mask_spgist(MutableByteView page, const PageHeader& header) {
  constexpr std::uint16_t kMeta = 1U << 0;
  mask_hole(page, header);
  const std::size_t list = kPageHeaderBytes + sizeof(std::uint32_t);
  if ((load<std::uint16_t>(page, header.special) & kMeta) != 0 && header.lower > list) {
    zero(page, list, header.lower - list);
  }
}

// nextval() logs a value ahead of the one that it writes to the page, so the last value and the
// number of values logged ahead differ between a page and its replay.
// Source: src/backend/commands/sequence.c (nextval_internal), include/commands/sequence.h.
void mask_sequence(MutableByteView page, const PageHeader& header, std::uint32_t block) {
  constexpr std::size_t kTupleData = 24;
  constexpr std::size_t kValues = 16;
  mask_heap(page, header, block);
  mask_hole(page, header);
  const std::size_t tuple = load<std::uint32_t>(page, kPageHeaderBytes) & 0x7FFF;
  if (tuple + kTupleData + kValues <= header.special) zero(page, tuple + kTupleData, kValues);
}

bool plausible(const PageHeader& header) {
  return header.lower >= kPageHeaderBytes && header.lower <= header.upper &&
         header.upper <= header.special && header.special <= kPageBytes;
}

}  // namespace

PageKind guess_page_kind(ByteView page) {
  HF_ASSERT(page.size() == kPageBytes);
  const PageHeader header = parse_page_header(page);
  if (!plausible(header)) return PageKind::Other;
  const std::size_t special_bytes = kPageBytes - header.special;
  const auto last = load<std::uint16_t>(page, kPageBytes - 2);
  if (special_bytes == 0) return PageKind::Heap;
  if (special_bytes == kLargeSpecial) {
    if (last == kHashPageId) return PageKind::Hash;
    if (last == kGistPageId) return PageKind::Gist;
    if (last <= kMaxBtreeCycleId) return PageKind::Btree;
  }
  if (special_bytes == kSmallSpecial) {
    if (last == kSpGistPageId) return PageKind::SpGist;
    if (last >= kBrinMeta && last <= kBrinRegular) return PageKind::Brin;
    if (load<std::uint64_t>(page, header.special) == kSequenceMagic) return PageKind::Sequence;
    // GIN has no mark of its own, only flags of which the low byte is in use.
    if (last <= kMaxGinFlags) return PageKind::Gin;
  }
  return PageKind::Other;
}

void mask_page(MutableByteView page, PageKind kind, std::uint32_t block, MaskOptions options) {
  HF_ASSERT(page.size() == kPageBytes);
  const PageHeader header = parse_page_header(page);
  if (!plausible(header)) return;
  if (options.lsn) zero(page, kLsn, sizeof(std::uint64_t));
  if (options.checksum) zero(page, kChecksum, sizeof(std::uint16_t));
  zero(page, kPruneXid, sizeof(std::uint32_t));
  clear_bits(page, kFlags, kHintFlags);

  const std::size_t special_bytes = kPageBytes - header.special;
  switch (kind) {
    case PageKind::Heap:
      mask_heap(page, header, block);
      mask_hole(page, header);
      break;
    case PageKind::Btree:
      if (special_bytes == kLargeSpecial) mask_btree(page, header);
      break;
    case PageKind::Hash:
      if (special_bytes == kLargeSpecial) mask_hash(page, header);
      break;
    case PageKind::Gist:
      if (special_bytes == kLargeSpecial) mask_gist(page, header);
      break;
    case PageKind::Gin:
      if (special_bytes == kSmallSpecial) mask_gin(page, header);
      break;
    case PageKind::Brin:
      if (special_bytes == kSmallSpecial) mask_brin(page, header);
      break;
    case PageKind::SpGist:
      if (special_bytes == kSmallSpecial) mask_spgist(page, header);
      break;
    case PageKind::Sequence:
      mask_sequence(page, header, block);
      break;
    case PageKind::Other:
      break;
  }
}

}  // namespace holdfast::postgres
