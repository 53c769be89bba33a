#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace holdfast::postgres {

/// What a page belongs to, as far as masking differs.
enum class PageKind {
  Heap,
  Btree,
  Hash,
  Gin,
  Gist,
  SpGist,
  Brin,
  Sequence,
  Other  ///< visibility maps and what we do not know: header only
};

struct MaskOptions {
  bool lsn = true;       ///< mask pd_lsn
  bool checksum = true;  ///< mask pd_checksum
};

/// Guesses the kind of a page from its special space; a page without one is taken as heap.
/// Source: PostgreSQL src/include/access/{nbtree,hash,ginblock,gist,spgist_private,brin_page}.h and
/// commands/sequence.c (page ids and magic numbers at the page's end).
PageKind guess_page_kind(ByteView page);

/// Overwrites with zeros what may differ between two pages that went through the same WAL: hint
/// bits, the unused space between pd_lower and pd_upper, pd_prune_xid, hint flags, dead-item marks.
/// `page` is kPageBytes long; a page with impossible header values is left as it is, so that it
/// compares byte by byte. Beyond what PostgreSQL masks: a sequence's last value with the number of
/// values logged ahead, and SP-GiST's list of pages with room, because these differ between a page
/// and its replay too. `block` is its number within the fork (masked by speculative heap ctids).
/// Source: PostgreSQL src/backend/access/common/bufmask.c and the rm_mask functions of each
/// resource manager.
void mask_page(MutableByteView page, PageKind kind, std::uint32_t block, MaskOptions options);

}  // namespace holdfast::postgres
