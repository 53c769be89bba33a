#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "base/bytes.h"
#include "postgres/lsn.h"

namespace holdfast::postgres {

/// Lays records out in pages of WAL, one behind the other.
class WalPageWriter {
 public:
  /// Takes whole pages, ascending. Those that are left out are never read.
  using Output = std::function<void(Lsn position, ByteView pages)>;

  WalPageWriter(int major, std::uint64_t wal_segment_bytes, std::uint64_t system_identifier,
                Output output);

  /// Pages from this one on are of this timeline; in order.
  void set_timeline(Lsn page, TimelineId timeline) {
    if (timelines_.empty() || timelines_.rbegin()->second != timeline) {
      timelines_[page.value] = timeline;
    }
  }

  /// What is to be there as it is: from the first byte of a segment to where the first record will
  /// begin; or, later, from position() to the segment's end.
  void copy(Lsn position, ByteView bytes);
  /// Where the next record begins, or the page that it begins on.
  Lsn position() const { return position_; }

  /// Returns where it begins.
  Lsn begin_record(std::uint32_t total);
  /// Its next bytes; all together as many as begin_record() was told.
  void append(ByteView bytes);
  void append_zeros(std::uint64_t count);
  void end_record();

  /// Goes on there: the start of a later segment. What is left of the one that was being written is
  /// for nobody.
  void go_on_at(Lsn segment_start);
  /// Nothing more will come.
  void finish();

 private:
  void begin_page();
  void add(const std::byte* bytes, std::size_t count);  // null: zeros
  void flush();

  int major_;
  std::uint64_t segment_bytes_;
  std::uint64_t system_identifier_;
  Output output_;
  std::map<std::uint64_t, TimelineId> timelines_;
  Lsn position_{};
  bool in_record_ = false;
  std::uint32_t record_left_ = 0;
  Lsn buffer_start_{};
  Bytes buffer_;  // whole pages, but for the last one
};

}  // namespace holdfast::postgres
