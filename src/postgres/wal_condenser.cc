#include "postgres/wal_condenser.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "postgres/crc32c.h"
#include "postgres/versions.h"
#include "postgres/wal_byte_position_internal.h"
#include "postgres/wal_condenser_internal.h"
#include "postgres/wal_filter.h"
#include "postgres/wal_format_internal.h"
#include "postgres/wal_page_writer_internal.h"

namespace holdfast::postgres {
namespace {

/// A gap is filled with records of this size: a decoder of PostgreSQL's has room for several.
constexpr std::uint64_t kFillerBytes = 64U << 10;

/// What the checksum of a record becomes when its link to the record before changes. A CRC is
/// linear, and the header comes last in it: the difference is that of these bytes alone.
std::uint32_t relinked_crc(std::uint32_t crc, std::uint64_t old_link, std::uint64_t new_link) {
  std::array<std::byte, kRecordCrcOffset> difference{};
  store<std::uint64_t>(difference, kRecordLinkOffset, old_link ^ new_link);
  return crc ^ ~crc32c(difference, ~std::uint32_t{0});
}

}  // namespace

class WalCondenser::Work {
 public:
  Work(const WalExtent& extent, const WalScope& scope, Output output)
      : extent_(extent),
        scope_(scope),
        output_(std::move(output)),
        places_(extent.wal_segment_bytes),
        next_segment_{extent.start.value - extent.start.value % extent.wal_segment_bytes} {}

  void add(const WalSegmentContent& segment) {
    HF_ASSERT(segment.bytes.size() == extent_.wal_segment_bytes);
    if (segment.start != next_segment_) invalid(next_segment_, "no segment begins");
    next_segment_.value += extent_.wal_segment_bytes;
    if (done_) return writer_->copy(segment.start, segment.bytes);
    if (segment.start >= extent_.end) return;  // finish() tells what is missing
    begin(segment);
    const bool unused = end_crossing(segment);
    const bool has_records = !unused && !crossing_ && !done_;
    if (has_records) check_link(segment);
    if (!done_) leave_rest_unused(segment, has_records);
    if (has_records) place_records(segment);
    if (!done_) return;
    const Lsn at = writer_->position();
    writer_->copy(at, segment.bytes.subspan(at.value - segment.start.value));
  }

  void finish() {
    if (!done_) {
      if (crossing_) invalid(crossing_->start, "only part of a record");
      invalid(next_segment_, "no more of it");
    }
    writer_->finish();
  }

  Lsn last_record() const { return previous_; }
  std::uint64_t records() const { return records_; }
  std::uint64_t replaced() const { return replaced_; }

 private:
  /// A record that goes on in another segment.
  struct Crossing {
    Lsn start;
    std::uint32_t total = 0;
    bool skips = false;  // a lost record lies before it
    std::uint32_t seen = 0;
    std::uint32_t crc = 0;  // of what came after the header
    std::optional<bool> wanted{};
    bool movable = false;
    Bytes bytes{};  // all that was seen, or the beginning of what will not be written
  };

  [[noreturn]] void invalid(Lsn position, std::string_view what) const {
    invalid_wal(extent_, position, what);
  }

  void begin(const WalSegmentContent& segment) {
    if (!writer_) {
      system_identifier_ = segment.system_identifier;
      writer_.emplace(extent_.major, extent_.wal_segment_bytes, system_identifier_, output_);
      // Readers look at the headers of the first pages.
      writer_->copy(segment.start, segment.bytes.first(segment.first.value - segment.start.value));
      if (segment.records > 0) link_ = segment.first_link;
    } else if (segment.system_identifier != system_identifier_) {
      invalid(segment.start, "a foreign system identifier");
    }
    for (const auto& [page, timeline] : segment.timelines) writer_->set_timeline(page, timeline);
  }

  // -- a record that lies in several segments

  void begin_crossing(const WalSegmentContent& segment) {
    crossing_ = Crossing{.start = Lsn{segment.start.value + segment.crossing},
                         .total = segment.crossing_total,
                         .skips = segment.crossing_skips};
    feed(segment.bytes, segment.crossing);
  }

  /// What the segment has of the record before. True: that one leaves the rest of it unused.
  bool end_crossing(const WalSegmentContent& segment) {
    if (!crossing_) {
      if (segment.tail == 0) return false;
      invalid(segment.start, "a record's continuation where a record should begin");
    }
    if (segment.lost) {
      // A crash lost the rest of it; what is here was written in its place.
      crossing_.reset();
      return false;
    }
    if (segment.tail != crossing_->total - crossing_->seen) {
      invalid(segment.start, "no continuation of the record");
    }
    const std::size_t end = feed(segment.bytes, 0);
    if (crossing_->seen < crossing_->total) return false;
    const Crossing record = std::move(*crossing_);
    crossing_.reset();
    const ByteView bytes = record.bytes;
    if (crc32c(bytes.first(kRecordCrcOffset), record.crc) !=
        load<std::uint32_t>(bytes, kRecordCrcOffset)) {
      invalid(record.start, "a wrong checksum of the record");
    }
    const bool switches = is_switch(bytes);
    const Lsn next = switches ? next_segment_ : Lsn{segment.start.value + align8(end)};
    done_ = next_record(next, extent_.wal_segment_bytes) >= extent_.end;
    ++records_;
    if (!*record.wanted) ++replaced_;
    if (*record.wanted || (done_ && switches)) {
      place(record.start, bytes, record.movable && !done_);
    } else if (done_) {
      place_noop(record.start, bytes, record.total);
    } else {
      note_transaction(load<std::uint32_t>(bytes, kRecordXidOffset));
    }
    previous_ = record.start;
    return switches;
  }

  /// The segment's bytes from `at` on, as far as the record goes; where that is.
  std::size_t feed(ByteView segment, std::size_t at) {
    Crossing& record = *crossing_;
    while (at < segment.size() && record.seen < record.total) {
      if (at % kWalPageBytes == 0) at += at == 0 ? kLongHeaderBytes : kShortHeaderBytes;
      const auto now =
          std::min<std::size_t>(record.total - record.seen, kWalPageBytes - at % kWalPageBytes);
      const ByteView piece = segment.subspan(at, now);
      const std::size_t of_header =
          record.seen < kRecordHeaderBytes
              ? std::min<std::size_t>(now, kRecordHeaderBytes - record.seen)
              : 0;
      record.crc = crc32c(piece.subspan(of_header), record.crc);
      record.seen += static_cast<std::uint32_t>(now);
      at += now;
      if (record.wanted && !*record.wanted && !is_switch(record.bytes)) continue;
      record.bytes.insert(record.bytes.end(), piece.begin(), piece.end());
      if (!record.wanted) decide_on(record);
    }
    return at;
  }

  void decide_on(Crossing& record) {
    const ByteView head =
        ByteView(record.bytes).first(std::min(record.bytes.size(), kWalHeadBytes));
    const auto read = read_record_head(head, record.total, scope_, extent_.major);
    if (!read) {
      if (record.seen == record.total || head.size() == kWalHeadBytes) {
        invalid(record.start, "a record with impossible headers");
      }
      return;
    }
    const Lsn link{load<std::uint64_t>(head, kRecordLinkOffset)};
    if (!follows(record.start, link, record.skips)) {
      invalid(record.start, "a wrong link to the record before");
    }
    if (!link_.valid()) link_ = link;
    record.wanted = is_wanted(*read, scope_, extent_.major);
    record.movable = can_move(*read);
  }

  bool follows(Lsn record, Lsn link, bool skips) const {
    return previous_.valid() && !skips ? link == previous_ : link < record;
  }

  // -- the records of one segment

  void check_link(const WalSegmentContent& segment) const {
    if (segment.failure) std::rethrow_exception(segment.failure);
    if (segment.records > 0 && !follows(segment.last, segment.first_link, segment.first_skips)) {
      invalid(segment.start, "a wrong link to the record before the first one");
    }
  }

  void place_records(const WalSegmentContent& segment) {
    note_transaction(segment.newest_xid);
    for (std::size_t i = 0; i < segment.kept.size(); ++i) {
      const auto& record = segment.kept[i];
      const Lsn start{segment.start.value + record.offset};
      const ByteView bytes = whole(segment.bytes, record);
      if (segment.has_last && !segment.last_stays && i + 1 == segment.kept.size()) {
        place_noop(start, bytes, record.total);
      } else {
        place(start, bytes, record.movable);
      }
    }
    done_ = segment.has_last;
    records_ += segment.records;
    replaced_ += segment.replaced;
    if (segment.records > 0) previous_ = segment.last;
    if (segment.crossing != 0) begin_crossing(segment);
  }

  /// The record in one piece.
  ByteView whole(ByteView segment, const WalSegmentContent::Record& record) {
    std::size_t at = record.offset;
    if (record.total <= kWalPageBytes - at % kWalPageBytes) {
      return segment.subspan(at, record.total);
    }
    assembled_.clear();
    while (assembled_.size() < record.total) {
      if (at % kWalPageBytes == 0) at += kShortHeaderBytes;
      const ByteView piece = segment.subspan(
          at, std::min(record.total - assembled_.size(), kWalPageBytes - at % kWalPageBytes));
      assembled_.insert(assembled_.end(), piece.begin(), piece.end());
      at += piece.size();
    }
    return assembled_;
  }

  // -- where they go. Places are counted as WalBytePositions does. What was left out before one
  // that stays in its place has made room for at least a record's header, or for nothing: records
  // have that length, and leave_rest_unused() sees to it.

  std::uint64_t here() const { return places_.of(writer_->position()); }

  /// Of what is left out; and of what is not, for what was the newest before it may be so far
  /// behind by now that it looks like one of the future.
  void note_transaction(std::uint32_t xid) { newest_xid_ = newer_transaction(newest_xid_, xid); }

  void place(Lsn start, ByteView record, bool movable) {
    if (!movable) fill_up_to(start);
    put(record);
    note_transaction(load<std::uint32_t>(record, kRecordXidOffset));
  }

  void place_noop(Lsn start, ByteView header, std::uint32_t total) {
    fill_up_to(start);
    put_noop(total, load<std::uint32_t>(header, kRecordXidOffset));
  }

  void fill_up_to(Lsn start) {
    const std::uint64_t wanted = places_.of(start);
    std::uint64_t gap = wanted - here();
    if (gap == 0) return;
    if (wanted < here() || gap < kRecordHeaderBytes) {
      invalid(start, "no room for what takes the place of the records before it");
    }
    while (gap > 0) {
      const std::uint64_t now = gap < kFillerBytes + kRecordHeaderBytes ? gap : kFillerBytes;
      put_noop(static_cast<std::uint32_t>(now), newest_xid_);
      gap -= now;
    }
  }

  /// Ends the segments before this one early, if nothing in them keeps its place behind here.
  void leave_rest_unused(const WalSegmentContent& segment, bool has_records) {
    const std::uint64_t begin = places_.of(segment.start);
    if (here() >= begin) return;
    // What the record that goes on is like shows later, and whether it is the extent's last one,
    // which stays, at its end.
    if (crossing_) return;
    if (has_records) {
      // Where it begins, the first one may have to stay: then there must be room for a filler.
      std::uint64_t first = begin + places_.in_segment();
      if (!segment.kept.empty()) {
        first = places_.of(Lsn{segment.start.value + segment.kept.front().offset});
      } else if (segment.crossing != 0) {
        first = places_.of(Lsn{segment.start.value + segment.crossing});
      }
      if (first != begin && first - begin < kRecordHeaderBytes) return;
    }
    const bool in_last = places_.segment_of(here()) + 1 == places_.segment_of(begin);
    if (in_last && begin - here() < kRecordHeaderBytes) return;
    while (here() < begin) put_switch();
  }

  void put(ByteView record) {
    const Lsn link =
        std::exchange(link_, writer_->begin_record(static_cast<std::uint32_t>(record.size())));
    const auto old_link = load<std::uint64_t>(record, kRecordLinkOffset);
    if (old_link == link.value) {
      writer_->append(record);
    } else {
      std::array<std::byte, kRecordHeaderBytes> header;
      std::copy_n(record.begin(), header.size(), header.begin());
      store<std::uint64_t>(header, kRecordLinkOffset, link.value);
      store<std::uint32_t>(
          header, kRecordCrcOffset,
          relinked_crc(load<std::uint32_t>(header, kRecordCrcOffset), old_link, link.value));
      writer_->append(header);
      writer_->append(record.subspan(header.size()));
    }
    writer_->end_record();
  }

  void put_noop(std::uint32_t total, std::uint32_t xid) {
    const Lsn link = std::exchange(link_, writer_->begin_record(total));
    const Bytes record = noop_record(header_of(total, xid, link), total);
    writer_->append(record);
    writer_->append_zeros(total - record.size());
    writer_->end_record();
  }

  void put_switch() {
    const Lsn link = std::exchange(link_, writer_->begin_record(kRecordHeaderBytes));
    auto record = header_of(kRecordHeaderBytes, newest_xid_, link);
    store<std::uint8_t>(record, kRecordInfoOffset, kXlogSwitch);
    store<std::uint8_t>(record, kRecordRmgrOffset, kXlogResourceManager);
    store<std::uint32_t>(record, kRecordCrcOffset,
                         crc32c(ByteView(record).first(kRecordCrcOffset)));
    writer_->append(record);
    writer_->end_record();
    // Readers go on in the segment behind the one that the record ends in.
    const std::uint64_t next = places_.segment_of(here() - 1) + 1;
    if (here() < places_.of_segment(next)) {
      writer_->go_on_at(segment_start(next, extent_.wal_segment_bytes));
    }
  }

  static std::array<std::byte, kRecordHeaderBytes> header_of(std::uint32_t total, std::uint32_t xid,
                                                             Lsn link) {
    std::array<std::byte, kRecordHeaderBytes> header{};
    store<std::uint32_t>(header, 0, total);
    store<std::uint32_t>(header, kRecordXidOffset, xid);
    store<std::uint64_t>(header, kRecordLinkOffset, link.value);
    return header;
  }

  const WalExtent extent_;
  const WalScope& scope_;
  Output output_;
  WalBytePositions places_;
  Lsn next_segment_;
  std::uint64_t system_identifier_ = 0;
  std::optional<WalPageWriter> writer_;
  std::optional<Crossing> crossing_;
  bool done_ = false;             // the extent's last record is written
  Lsn previous_{};                // start of the last record that came; zero: none has
  Lsn link_{};                    // start of the last one that was written
  std::uint32_t newest_xid_ = 0;  // of all that came; zero: none has one
  Bytes assembled_;               // keeps its memory
  std::uint64_t records_ = 0;
  std::uint64_t replaced_ = 0;
};

WalCondenser::WalCondenser(const WalExtent& extent, const WalScope& scope, Output output)
    : work_(std::make_unique<Work>(extent, scope, std::move(output))) {}
WalCondenser::~WalCondenser() = default;

void WalCondenser::add(const WalSegmentContent& segment) { work_->add(segment); }
void WalCondenser::finish() { work_->finish(); }
Lsn WalCondenser::last_record() const { return work_->last_record(); }
std::uint64_t WalCondenser::records() const { return work_->records(); }
std::uint64_t WalCondenser::replaced() const { return work_->replaced(); }

}  // namespace holdfast::postgres
