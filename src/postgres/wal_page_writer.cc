#include <algorithm>
#include <iterator>
#include <utility>

#include "base/assert.h"
#include "postgres/versions.h"
#include "postgres/wal_format_internal.h"
#include "postgres/wal_page_writer_internal.h"

namespace holdfast::postgres {
namespace {

/// Given out in pieces of about this size, which stay in the processor's cache.
constexpr std::size_t kPagesBytes = 256U << 10;

}  // namespace

WalPageWriter::WalPageWriter(int major, std::uint64_t wal_segment_bytes,
                             std::uint64_t system_identifier, Output output)
    : major_(major),
      segment_bytes_(wal_segment_bytes),
      system_identifier_(system_identifier),
      output_(std::move(output)) {
  buffer_.reserve(kPagesBytes + kWalPageBytes);
}

void WalPageWriter::copy(Lsn position, ByteView bytes) {
  if (!position_.valid()) position_ = buffer_start_ = position;
  HF_ASSERT(position == position_ && !in_record_);
  while (!bytes.empty()) {
    const std::size_t room = kWalPageBytes - position_.value % kWalPageBytes;
    const std::size_t now = std::min(room, bytes.size());
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(now));
    position_.value += now;
    bytes = bytes.subspan(now);
    if (buffer_.size() >= kPagesBytes && position_.value % kWalPageBytes == 0) flush();
  }
}

Lsn WalPageWriter::begin_record(std::uint32_t total) {
  HF_ASSERT(!in_record_ && position_.valid());
  if (position_.value % kWalPageBytes == 0) begin_page();
  in_record_ = true;
  record_left_ = total;
  return position_;
}

void WalPageWriter::append(ByteView bytes) { add(bytes.data(), bytes.size()); }

void WalPageWriter::append_zeros(std::uint64_t count) { add(nullptr, count); }

void WalPageWriter::add(const std::byte* bytes, std::size_t count) {
  HF_ASSERT(in_record_ && count <= record_left_);
  while (count > 0) {
    if (position_.value % kWalPageBytes == 0) begin_page();
    const std::size_t room = kWalPageBytes - position_.value % kWalPageBytes;
    const std::size_t now = std::min(room, count);
    if (bytes != nullptr) {
      buffer_.insert(buffer_.end(), bytes, bytes + now);
      bytes += now;
    } else {
      buffer_.resize(buffer_.size() + now);
    }
    position_.value += now;
    record_left_ -= static_cast<std::uint32_t>(now);
    count -= now;
  }
}

void WalPageWriter::end_record() {
  HF_ASSERT(in_record_ && record_left_ == 0);
  in_record_ = false;
  // A page ends at a multiple of 8, too.
  const std::uint64_t aligned = align8(position_.value);
  buffer_.resize(buffer_.size() + (aligned - position_.value));
  position_.value = aligned;
}

void WalPageWriter::begin_page() {
  if (buffer_.size() >= kPagesBytes) flush();
  const bool first = position_.value % segment_bytes_ == 0;
  const std::size_t bytes = first ? kLongHeaderBytes : kShortHeaderBytes;
  const std::size_t at = buffer_.size();
  buffer_.resize(at + bytes);
  const MutableByteView header = MutableByteView(buffer_).subspan(at);
  const auto timeline = timelines_.upper_bound(position_.value);
  HF_ASSERT(timeline != timelines_.begin());
  std::uint16_t flags = first ? kLongHeader : 0;
  if (in_record_) flags |= kFirstIsContinuation;
  store<std::uint16_t>(header, 0, version_facts(major_).wal_page_magic);
  store<std::uint16_t>(header, 2, flags);
  store<std::uint32_t>(header, 4, std::prev(timeline)->second);
  store<std::uint64_t>(header, 8, position_.value);
  store<std::uint32_t>(header, 16, in_record_ ? record_left_ : 0);
  if (first) {
    store<std::uint64_t>(header, kSystemIdentifierOffset, system_identifier_);
    store<std::uint32_t>(header, 32, static_cast<std::uint32_t>(segment_bytes_));
    store<std::uint32_t>(header, 36, static_cast<std::uint32_t>(kWalPageBytes));
  }
  position_.value += bytes;
}

void WalPageWriter::go_on_at(Lsn segment_start) {
  HF_ASSERT(!in_record_ && segment_start >= position_ && segment_start.value % segment_bytes_ == 0);
  finish();
  position_ = buffer_start_ = segment_start;
}

void WalPageWriter::finish() {
  HF_ASSERT(!in_record_);
  buffer_.resize((buffer_.size() + kWalPageBytes - 1) / kWalPageBytes * kWalPageBytes);
  flush();
}

void WalPageWriter::flush() {
  if (!buffer_.empty()) output_(buffer_start_, buffer_);
  buffer_start_.value += buffer_.size();
  buffer_.clear();
}

}  // namespace holdfast::postgres
