#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/bytes.h"
#include "postgres/lsn.h"
#include "postgres/wal_scope.h"

namespace holdfast::postgres {

struct WalFilterOptions {
  int major = 0;
  std::uint64_t wal_segment_bytes = 0;
  /// Where a record starts, as WalReaderOptions::start: the backup's start LSN. WAL before it, in
  /// the segment that it lies in, is not looked at.
  Lsn start{};
  /// Every record that begins before it must be whole and valid. What begins at or after it is
  /// not looked at: nothing will replay it.
  Lsn end{};
  /// What becomes of WAL that is not looked at.
  enum class Outside {
    Keep,  ///< it goes through
    Blank  ///< zeros, but for the headers of pages before `end`: for WAL that is handed on
  };
  Outside outside = Outside::Keep;
};

/// Replaces WAL records outside a scope by records that do nothing (XLOG_NOOP) of the same length,
/// so that every LSN stays, what the scope leaves out is gone, and recovery of a partial copy
/// touches only what the copy has.
///
/// Bytes go in and come out in order. What the filter carries from one piece of WAL to the next -
/// half a record, and the bytes whose fate is not decided yet: less than two pages - is in the
/// object, which may be copied at any boundary to go on from there later.
///
/// Source of the replacement record: PostgreSQL src/include/access/xlogrecord.h; `docs/formats/
/// wal-scope.md`.
class WalFilter {
 public:
  /// Takes filtered WAL: whole pages, in order, without gaps.
  using Output = std::function<void(Lsn position, ByteView pages)>;

  WalFilter(WalFilterOptions options, WalScope scope);

  /// The next piece: whole pages, the first at the start of the segment that options.start lies in.
  /// Throws kDataCorrupted when the WAL before options.end is not valid.
  void push(ByteView pages, const Output& output);
  /// No more will come. Throws kDataCorrupted when options.end was not reached.
  void finish(const Output& output);

  /// Whether every record that begins before options.end has come whole.
  bool complete() const {
    return done_ || (position_ >= options_.end && !(in_record_ && record_.start < options_.end));
  }

  /// Whole records so far, and how many of them were replaced.
  std::uint64_t records() const { return records_; }
  std::uint64_t replaced() const { return replaced_; }

 private:
  /// A piece of the current record that lies in `pending_`.
  struct Piece {
    std::size_t place;  ///< in pending_
    std::size_t bytes;
    std::uint32_t record_offset;
  };
  /// The record that is being read.
  struct Record {
    Lsn start;
    std::uint32_t total = 0;
    std::uint32_t seen = 0;  ///< bytes of it so far; total: it is complete
    bool decided = false;
    WalDecision decision = WalDecision::Keep;
    Bytes head;                   ///< its first bytes, as many as the decision may need
    std::uint32_t crc = 0;        ///< of what came after the header
    std::vector<Piece> pieces{};  ///< before the decision
    Bytes replacement{};          ///< the first bytes of the record that takes its place
  };

  void page(Lsn position, std::size_t place);
  void blank(std::size_t place, std::size_t from);
  void blank(std::size_t place, std::size_t from, std::size_t to);
  std::size_t header_bytes(Lsn position) const;
  bool begin_page(Lsn position, ByteView page, std::size_t& offset);
  void begin_record(Lsn start, std::uint32_t total);
  void take(std::size_t place, std::size_t bytes);
  void decide_record();
  void overwrite(const Piece& piece);
  void end_record(std::uint64_t end);
  void flush(const Output& output);
  [[noreturn]] void invalid(Lsn position, const std::string& what) const;

  WalFilterOptions options_;
  WalScope scope_;
  Lsn position_;  ///< of the next page
  Lsn previous_;  ///< start of the record before; zero before the first
  bool overwritten_ =
      false;  ///< the record before was lost in a crash: its successor's link skips it
  bool in_record_ = false;
  bool started_ = false;
  bool done_ = false;             ///< options.end is reached
  std::uint64_t skip_until_ = 0;  ///< the rest of a segment that was switched away from
  Record record_;
  Bytes pending_;  ///< pages that were not given out yet
  Lsn pending_start_;
  std::uint64_t records_ = 0;
  std::uint64_t replaced_ = 0;
};

/// The bytes of the record that takes the place of one with this header (24 bytes): header and data
/// header; zeros follow up to `total`.
Bytes noop_record(ByteView header, std::uint32_t total);

}  // namespace holdfast::postgres
