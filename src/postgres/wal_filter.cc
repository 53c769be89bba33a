#include "postgres/wal_filter.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/error.h"
#include "postgres/crc32c.h"
#include "postgres/versions.h"
#include "postgres/wal_format_internal.h"

namespace holdfast::postgres {
namespace {

/// Enough for the headers of a record with all 33 block references, and what decide() sees of its
/// main data.
constexpr std::size_t kHeadBytes = 2048;
/// Given out in pieces of about this size.
constexpr std::size_t kOutputBytes = 256U << 10;
/// What follows the header of a record with main data: an id and the length.
constexpr std::size_t kShortDataHeader = 2;
constexpr std::size_t kLongDataHeader = 5;
constexpr std::size_t kShortDataLimit = 255;

std::uint32_t crc_of_zeros(std::uint64_t count, std::uint32_t crc) {
  static constexpr std::array<std::byte, 4096> kZeros{};
  while (count > 0) {
    const std::size_t now = static_cast<std::size_t>(std::min<std::uint64_t>(count, kZeros.size()));
    crc = crc32c(ByteView(kZeros).first(now), crc);
    count -= now;
  }
  return crc;
}

}  // namespace

Bytes noop_record(ByteView header, std::uint32_t total) {
  HF_ASSERT(header.size() >= kRecordHeaderBytes && total >= kRecordHeaderBytes);
  Bytes record(header.begin(), header.begin() + kRecordHeaderBytes);
  // The length, the transaction (recovery advances its counter from it) and the link to the record
  // before stay.
  store<std::uint8_t>(record, 16, kXlogNoop);
  store<std::uint8_t>(record, 17, kXlogResourceManager);
  store<std::uint16_t>(record, 18, 0);
  const std::uint64_t rest = total - kRecordHeaderBytes;
  if (rest == 1) {
    throw Error(sqlstate::kDataCorrupted, "WAL record of 25 bytes, which PostgreSQL never writes");
  }
  if (rest >= kShortDataHeader && rest - kShortDataHeader <= kShortDataLimit) {
    record.resize(kRecordHeaderBytes + kShortDataHeader);
    store<std::uint8_t>(record, 24, kIdDataShort);
    store<std::uint8_t>(record, 25, static_cast<std::uint8_t>(rest - kShortDataHeader));
  } else if (rest > 0) {
    record.resize(kRecordHeaderBytes + kLongDataHeader);
    store<std::uint8_t>(record, 24, kIdDataLong);
    store<std::uint32_t>(record, 25, static_cast<std::uint32_t>(rest - kLongDataHeader));
  }
  const ByteView view = record;
  std::uint32_t crc = crc32c(view.subspan(kRecordHeaderBytes));
  crc = crc_of_zeros(total - record.size(), crc);
  store<std::uint32_t>(record, kRecordCrcOffset, crc32c(view.first(kRecordCrcOffset), crc));
  return record;
}

WalFilter::WalFilter(WalFilterOptions options, WalScope scope)
    : options_(options), scope_(std::move(scope)) {
  version_facts(options_.major);
  if (!valid_wal_segment_bytes(options_.wal_segment_bytes)) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("WAL segment size {} is impossible", options_.wal_segment_bytes));
  }
  position_.value = options_.start.value - options_.start.value % options_.wal_segment_bytes;
  pending_start_ = position_;
}

void WalFilter::invalid(Lsn position, const std::string& what) const {
  throw Error(sqlstate::kDataCorrupted,
              fmt::format("WAL between {} and {} is invalid: {} at {}", to_string(options_.start),
                          to_string(options_.end), what, to_string(position)));
}

void WalFilter::push(ByteView pages, const Output& output) {
  HF_ASSERT(pages.size() % kWalPageBytes == 0);
  while (!pages.empty()) {
    const std::size_t place = pending_.size();
    pending_.insert(pending_.end(), pages.begin(), pages.begin() + kWalPageBytes);
    pages = pages.subspan(kWalPageBytes);
    page(position_, place);
    position_.value += kWalPageBytes;
    const bool undecided = in_record_ && !record_.decided;
    if (!undecided && (pending_.size() >= kOutputBytes || pages.empty())) flush(output);
  }
}

void WalFilter::finish(const Output& output) {
  if (!done_ && position_ < options_.end) invalid(position_, "no more of it");
  if (in_record_ && record_.start < options_.end) invalid(record_.start, "only part of a record");
  flush(output);
}

void WalFilter::flush(const Output& output) {
  if (!pending_.empty()) output(pending_start_, pending_);
  pending_start_.value += pending_.size();
  pending_.clear();
}

std::size_t WalFilter::header_bytes(Lsn position) const {
  return position.value % options_.wal_segment_bytes == 0 ? kLongHeaderBytes : kShortHeaderBytes;
}

void WalFilter::blank(std::size_t place, std::size_t from) { blank(place, from, kWalPageBytes); }

// Of the page at `place` in pending_, if what is not looked at is not to be kept.
void WalFilter::blank(std::size_t place, std::size_t from, std::size_t to) {
  if (options_.outside == WalFilterOptions::Outside::Blank && from < to) {
    std::memset(pending_.data() + place + from, 0, to - from);
  }
}

// One page, which lies at `place` in pending_.
void WalFilter::page(Lsn position, std::size_t place) {
  if (done_) return blank(place, 0);
  if (position.value + kWalPageBytes <= options_.start.value || position.value < skip_until_) {
    return blank(place, header_bytes(position));
  }
  std::size_t offset = 0;
  const bool first = !started_;
  if (!begin_page(position, ByteView(pending_).subspan(place, kWalPageBytes), offset)) {
    return blank(place, done_ ? 0 : header_bytes(position));
  }
  if (first) blank(place, header_bytes(position), offset);
  while (!done_ && offset < kWalPageBytes) {
    if (!in_record_) {
      // Records begin at multiples of 8, so their length at least lies on one page.
      offset = static_cast<std::size_t>(align8(offset));
      if (offset >= kWalPageBytes) return;
      const Lsn start{position.value + offset};
      if (start >= options_.end) {
        done_ = true;
        return blank(place, offset);
      }
      const auto total = load<std::uint32_t>(pending_, place + offset);
      if (total < kRecordHeaderBytes || total > kMaxRecordBytes) {
        invalid(start, fmt::format("record length {}", total));
      }
      begin_record(start, total);
    }
    const std::size_t bytes = static_cast<std::size_t>(
        std::min<std::uint64_t>(record_.total - record_.seen, kWalPageBytes - offset));
    take(place + offset, bytes);
    offset += bytes;
    if (record_.seen == record_.total) end_record(position.value + offset);
    if (position.value + offset < skip_until_) return blank(place, offset);
  }
}

// Checks the page's header and finds where on it to go on. False: nothing on it is to be looked at.
bool WalFilter::begin_page(Lsn position, ByteView page, std::size_t& offset) {
  const VersionFacts& facts = version_facts(options_.major);
  const auto flags = load<std::uint16_t>(page, 2);
  const auto remaining = load<std::uint32_t>(page, 16);
  const bool first_of_segment = position.value % options_.wal_segment_bytes == 0;
  if (load<std::uint16_t>(page, 0) != facts.wal_page_magic || (flags & ~kAllPageFlags) != 0 ||
      load<std::uint64_t>(page, 8) != position.value ||
      ((flags & kLongHeader) != 0) != first_of_segment) {
    if (position >= options_.end) {
      done_ = true;
      return false;
    }
    invalid(position, "unexpected page header");
  }
  offset = first_of_segment ? kLongHeaderBytes : kShortHeaderBytes;
  if (in_record_) {
    if ((flags & kFirstIsOverwrite) != 0) {
      // A crash lost the rest of the record; what follows was written in its place. What it was is
      // of no interest any more: recovery skips it.
      in_record_ = false;
      overwritten_ = true;
      return true;
    }
    if ((flags & kFirstIsContinuation) == 0 || remaining != record_.total - record_.seen) {
      invalid(position, "no continuation of the record");
    }
    return true;
  }
  if (started_) {
    if ((flags & kFirstIsContinuation) != 0) {
      invalid(position, "a record's continuation where a record should begin");
    }
    return true;
  }
  // The first page that counts.
  const std::uint64_t start_offset =
      options_.start.value > position.value ? options_.start.value - position.value : 0;
  if (start_offset > offset) {
    if (start_offset % 8 != 0) invalid(options_.start, "no record can begin");
    offset = start_offset;
  } else if ((flags & kFirstIsContinuation) != 0) {
    const std::uint64_t end = offset + align8(remaining);
    if (end > kWalPageBytes) return false;  // nothing begins here; the next page is the first
    offset = static_cast<std::size_t>(end);
  }
  started_ = true;
  return true;
}

// Field by field: the buffers keep their memory from record to record.
void WalFilter::begin_record(Lsn start, std::uint32_t total) {
  record_.start = start;
  record_.total = total;
  record_.seen = 0;
  record_.decided = false;
  record_.decision = WalDecision::Keep;
  record_.head.clear();
  record_.crc = 0;
  record_.pieces.clear();
  in_record_ = true;
}

// The next bytes of the record, at `place` in pending_.
void WalFilter::take(std::size_t place, std::size_t bytes) {
  const ByteView piece = ByteView(pending_).subspan(place, bytes);
  if (record_.head.size() < kHeadBytes) {
    const std::size_t more = std::min(bytes, kHeadBytes - record_.head.size());
    record_.head.insert(record_.head.end(), piece.begin(), piece.begin() + more);
  }
  const std::size_t header_left =
      record_.seen < kRecordHeaderBytes
          ? std::min<std::size_t>(bytes, kRecordHeaderBytes - record_.seen)
          : 0;
  record_.crc = crc32c(piece.subspan(header_left), record_.crc);
  const Piece taken{.place = place, .bytes = bytes, .record_offset = record_.seen};
  record_.seen += static_cast<std::uint32_t>(bytes);
  if (!record_.decided) {
    record_.pieces.push_back(taken);
    decide_record();
  } else if (record_.decision == WalDecision::Replace) {
    overwrite(taken);
  }
}

void WalFilter::decide_record() {
  const std::optional<WalRecordHead> head =
      read_record_head(record_.head, record_.total, scope_, options_.major);
  if (!head) {
    if (record_.seen == record_.total || record_.head.size() == kHeadBytes) {
      invalid(record_.start, "a record with impossible headers");
    }
    return;
  }
  // Before anything is decided: a length that was read from garbage must not blank what follows.
  const auto previous = load<std::uint64_t>(record_.head, 8);
  const bool linked = previous_.valid() && !overwritten_ ? previous == previous_.value
                                                         : previous < record_.start.value;
  if (!linked) invalid(record_.start, "a wrong link to the record before");
  record_.decided = true;
  record_.decision = decide(*head, scope_, options_.major);
  if (record_.decision == WalDecision::Replace) {
    record_.replacement = noop_record(record_.head, record_.total);
    for (const Piece& piece : record_.pieces) overwrite(piece);
  }
  record_.pieces.clear();
}

void WalFilter::overwrite(const Piece& piece) {
  std::byte* const at = pending_.data() + piece.place;
  std::memset(at, 0, piece.bytes);
  const Bytes& replacement = record_.replacement;
  if (piece.record_offset >= replacement.size()) return;
  std::memcpy(at, replacement.data() + piece.record_offset,
              std::min(piece.bytes, replacement.size() - piece.record_offset));
}

// `end` is the position after its last byte.
void WalFilter::end_record(std::uint64_t end) {
  const ByteView head = record_.head;
  if (crc32c(head.first(kRecordCrcOffset), record_.crc) !=
      load<std::uint32_t>(head, kRecordCrcOffset)) {
    invalid(record_.start, "a wrong checksum of the record");
  }
  ++records_;
  if (record_.decision == WalDecision::Replace) ++replaced_;
  if (load<std::uint8_t>(head, 17) == kXlogResourceManager &&
      (load<std::uint8_t>(head, 16) & kInfoOwnBits) == kXlogSwitch) {
    skip_until_ = (end + options_.wal_segment_bytes - 1) / options_.wal_segment_bytes *
                  options_.wal_segment_bytes;
  }
  previous_ = record_.start;
  overwritten_ = false;
  in_record_ = false;
}

}  // namespace holdfast::postgres
