#include "postgres/wal_segment_content.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "base/assert.h"
#include "base/error.h"
#include "postgres/crc32c.h"
#include "postgres/versions.h"
#include "postgres/wal_condenser_internal.h"
#include "postgres/wal_format_internal.h"

namespace holdfast::postgres {
namespace {

class SegmentExaminer {
 public:
  SegmentExaminer(const WalExtent& extent, const WalScope& scope, Lsn start, ByteView bytes)
      : extent_(extent), facts_(version_facts(extent.major)), scope_(scope), bytes_(bytes) {
    HF_ASSERT(bytes.size() == extent.wal_segment_bytes);
    content_.start = start;
    content_.bytes = bytes;
  }

  WalSegmentContent run() {
    if (content_.start >= extent_.end) return std::move(content_);
    const bool first = extent_.start >= content_.start;
    const std::size_t at = first ? begin_extent() : begin_segment();
    content_.system_identifier = load<std::uint64_t>(bytes_, kSystemIdentifierOffset);
    if (content_.tail == 0 || content_.tail >= kRecordHeaderBytes) {
      read_records(at);
    } else {
      try {
        read_records(at);
      } catch (const Error&) {
        content_.failure = std::current_exception();
      }
    }
    if (first && !content_.first.valid()) invalid(extent_.start, "no record begins");
    return std::move(content_);
  }

 private:
  struct PageHeader {
    std::uint16_t flags = 0;
    std::uint32_t remaining = 0;
    std::size_t bytes = 0;
    bool continues() const { return (flags & kFirstIsContinuation) != 0; }
    bool overwrites() const { return (flags & kFirstIsOverwrite) != 0; }
  };

  Lsn lsn(std::size_t offset) const { return Lsn{content_.start.value + offset}; }
  [[noreturn]] void invalid(Lsn position, std::string_view what) const {
    invalid_wal(extent_, position, what);
  }

  PageHeader page_at(std::size_t offset) {
    const ByteView page = bytes_.subspan(offset, kWalPageBytes);
    PageHeader header{.flags = load<std::uint16_t>(page, 2),
                      .remaining = load<std::uint32_t>(page, 16),
                      .bytes = offset == 0 ? kLongHeaderBytes : kShortHeaderBytes};
    if (load<std::uint16_t>(page, 0) != facts_.wal_page_magic ||
        (header.flags & ~kAllPageFlags) != 0 || load<std::uint64_t>(page, 8) != lsn(offset).value ||
        ((header.flags & kLongHeader) != 0) != (offset == 0)) {
      invalid(lsn(offset), "unexpected page header");
    }
    const auto timeline = load<std::uint32_t>(page, 4);
    if (content_.timelines.empty() || content_.timelines.back().second != timeline) {
      content_.timelines.emplace_back(lsn(offset), timeline);
    }
    return header;
  }

  /// Where the extent's first record begins.
  std::size_t begin_extent() {
    const std::size_t wanted = extent_.start.value - content_.start.value;
    for (std::size_t page = wanted - wanted % kWalPageBytes; page < bytes_.size();
         page += kWalPageBytes) {
      const PageHeader header = page_at(page);
      if (wanted > page + header.bytes) {
        if (wanted % 8 != 0) invalid(extent_.start, "no record can begin");
        return wanted;
      }
      if (!header.continues()) return page + header.bytes;
      const std::uint64_t end = header.bytes + align8(header.remaining);
      if (end <= kWalPageBytes) return page + end;
    }
    return bytes_.size();
  }

  /// Behind what belongs to the record before.
  std::size_t begin_segment() {
    PageHeader header = page_at(0);
    content_.lost = skipped_ = header.overwrites();
    if (content_.lost || !header.continues()) return header.bytes;
    content_.tail = header.remaining;
    if (content_.tail == 0) invalid(content_.start, "no continuation of the record");
    std::uint64_t left = content_.tail;
    for (std::size_t page = 0;;) {
      const std::uint64_t now = std::min(left, kWalPageBytes - header.bytes);
      left -= now;
      if (left == 0) return page + header.bytes + align8(now);
      page += kWalPageBytes;
      if (page == bytes_.size()) return page;
      header = page_at(page);
      if (header.overwrites()) {
        content_.lost = skipped_ = true;
        return page + header.bytes;
      }
      if (!header.continues() || header.remaining != left) {
        invalid(lsn(page), "no continuation of the record");
      }
    }
  }

  void read_records(std::size_t at) {
    while (at < bytes_.size()) {
      if (at % kWalPageBytes == 0) {
        if (lsn(at) >= extent_.end) return;
        const PageHeader header = page_at(at);
        if (header.continues()) {
          invalid(lsn(at), "a record's continuation where a record should begin");
        }
        at += header.bytes;
      }
      if (lsn(at) >= extent_.end) return;
      // Records begin at multiples of 8, so their length at least lies on one page.
      const auto total = load<std::uint32_t>(bytes_, at);
      if (total < kRecordHeaderBytes || total > kMaxRecordBytes) {
        invalid(lsn(at), fmt::format("record length {}", total));
      }
      if (!content_.first.valid()) content_.first = lsn(at);
      const std::size_t room = kWalPageBytes - at % kWalPageBytes;
      if (total <= room) {
        const ByteView record = bytes_.subspan(at, total);
        at = end_record(at, record, total, crc32c(record.subspan(kRecordHeaderBytes)), at + total);
      } else {
        at = read_long_record(at, total);
      }
      if (content_.has_last) return;
    }
  }

  /// One that lies on several pages. Returns where to go on.
  std::size_t read_long_record(std::size_t begin, std::uint32_t total) {
    head_.clear();
    std::uint32_t crc = 0;
    std::uint32_t seen = 0;
    std::size_t at = begin;
    while (true) {
      const auto now = std::min<std::size_t>(total - seen, kWalPageBytes - at % kWalPageBytes);
      const ByteView piece = bytes_.subspan(at, now);
      const std::size_t more = std::min(now, kWalHeadBytes - head_.size());
      head_.insert(head_.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(more));
      const std::size_t of_header =
          seen < kRecordHeaderBytes ? std::min<std::size_t>(now, kRecordHeaderBytes - seen) : 0;
      crc = crc32c(piece.subspan(of_header), crc);
      seen += static_cast<std::uint32_t>(now);
      at += now;
      if (seen == total) return end_record(begin, head_, total, crc, at);
      if (at == bytes_.size()) {
        content_.crossing = static_cast<std::uint32_t>(begin);
        content_.crossing_total = total;
        content_.crossing_skips = skipped_;
        return at;
      }
      const PageHeader header = page_at(at);
      if (header.overwrites()) {
        // A crash lost the rest of the record; what follows was written in its place.
        skipped_ = true;
        return at + header.bytes;
      }
      if (!header.continues() || header.remaining != total - seen) {
        invalid(lsn(at), "no continuation of the record");
      }
      at += header.bytes;
    }
  }

  /// A whole record, of which `head` is the beginning. Returns where to go on.
  std::size_t end_record(std::size_t begin, ByteView head, std::uint32_t total, std::uint32_t crc,
                         std::size_t end) {
    const auto link = load<std::uint64_t>(head, kRecordLinkOffset);
    const bool linked =
        content_.last.valid() && !skipped_ ? link == content_.last.value : link < lsn(begin).value;
    if (!linked) invalid(lsn(begin), "a wrong link to the record before");
    if (crc32c(head.first(kRecordCrcOffset), crc) != load<std::uint32_t>(head, kRecordCrcOffset)) {
      invalid(lsn(begin), "a wrong checksum of the record");
    }
    if (!content_.last.valid()) {
      content_.first_link = Lsn{link};
      content_.first_skips = skipped_;
    }
    skipped_ = false;
    content_.last = lsn(begin);
    ++content_.records;

    const std::optional<WalRecordHead> read = read_record_head(head, total, scope_, extent_.major);
    if (!read) invalid(lsn(begin), "a record with impossible headers");
    const bool wanted = is_wanted(*read, scope_, extent_.major);
    const bool switches = is_switch(head);
    const std::size_t next = switches ? bytes_.size() : align8(end);
    content_.has_last = next_record(lsn(next), extent_.wal_segment_bytes) >= extent_.end;
    if (wanted || content_.has_last) {
      content_.kept.push_back({.offset = static_cast<std::uint32_t>(begin),
                               .total = total,
                               .movable = can_move(*read) && !content_.has_last});
      content_.last_stays = wanted || switches;
    }
    if (!wanted) {
      ++content_.replaced;
      content_.newest_xid =
          newer_transaction(content_.newest_xid, load<std::uint32_t>(head, kRecordXidOffset));
    }
    return next;
  }

  const WalExtent& extent_;
  const VersionFacts& facts_;
  const WalScope& scope_;
  ByteView bytes_;
  WalSegmentContent content_;
  Bytes head_;            // of a record on several pages; keeps its memory
  bool skipped_ = false;  // a lost record lies behind the last one
};

}  // namespace

void invalid_wal(const WalExtent& extent, Lsn position, std::string_view what) {
  throw Error(sqlstate::kDataCorrupted,
              fmt::format("WAL between {} and {} is invalid: {} at {}", to_string(extent.start),
                          to_string(extent.end), what, to_string(position)));
}

bool is_switch(ByteView header) {
  return load<std::uint8_t>(header, kRecordRmgrOffset) == kXlogResourceManager &&
         (load<std::uint8_t>(header, kRecordInfoOffset) & kInfoOwnBits) == kXlogSwitch;
}

bool is_wanted(const WalRecordHead& head, const WalScope& scope, int major) {
  return decide(head, scope, major) == WalDecision::Keep && !only_guides_reader(head);
}

Lsn next_record(Lsn end, std::uint64_t wal_segment_bytes) {
  if (end.value % kWalPageBytes != 0) return end;
  return Lsn{end.value +
             (end.value % wal_segment_bytes == 0 ? kLongHeaderBytes : kShortHeaderBytes)};
}

std::uint32_t newer_transaction(std::uint32_t a, std::uint32_t b) {
  if (a == 0 || b == 0) return a == 0 ? b : a;
  return static_cast<std::int32_t>(b - a) > 0 ? b : a;
}

WalSegmentContent examine_wal_segment(const WalExtent& extent, const WalScope& scope, Lsn start,
                                      ByteView bytes) {
  return SegmentExaminer(extent, scope, start, bytes).run();
}

}  // namespace holdfast::postgres
