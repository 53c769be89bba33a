#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "postgres/lsn.h"
#include "postgres/relation_path.h"
#include "postgres/versions.h"

namespace holdfast::postgres {

/// One block that a WAL record refers to.
struct WalBlock {
  BlockKey key;
  bool has_image = false;
  /// Replay starts from an empty page, so the page's former content does not matter.
  bool will_init = false;
  // Of the image, when there is one:
  bool image_applies = false;   ///< false: for wal_consistency_checking only, never to be applied
  std::uint8_t image_info = 0;  ///< bimg_info as stored; its bits differ per version
  std::uint16_t hole_offset = 0;
  std::uint16_t hole_bytes = 0;
  ByteView image;  ///< as stored: compressed, or without its hole
  ByteView data;   ///< the record's data for this block
};

/// One WAL record. Views are valid until the reader's next call.
/// Source: PostgreSQL src/include/access/xlogrecord.h.
struct WalRecord {
  Lsn start;  ///< first byte of the record
  Lsn end;    ///< first byte after it, aligned to 8: where the next one starts unless a page ends
  Lsn previous;  ///< start of the record before
  std::uint8_t resource_manager = 0;
  std::uint8_t info = 0;
  std::uint32_t xid = 0;  ///< 0: none
  std::optional<std::uint32_t> toplevel_xid;
  std::vector<WalBlock> blocks;
  ByteView main_data;
  ByteView bytes;  ///< the whole record, header first, as one piece
};

/// Fills `out` whole from byte `offset` of a WAL segment. False when those bytes are not there
/// (yet); throws for failures. Which timeline a segment is taken from is its own affair.
using WalInput =
    std::function<bool(std::uint64_t segment, std::uint64_t offset, MutableByteView out)>;

/// Serves segments from files in one directory, named for `timeline`.
WalInput wal_directory_input(std::string directory, TimelineId timeline,
                             std::uint64_t wal_segment_bytes);

/// Whether the input has the page that `lsn` is on, and not another one in its place, as a recycled
/// file of a server's has.
bool has_wal_page(const WalInput& input, Lsn lsn, std::uint64_t wal_segment_bytes);

struct WalReaderOptions {
  int major = 0;
  std::uint64_t wal_segment_bytes = 0;
  /// Where a record starts, such as a redo point. At the first byte of a page, the first record
  /// that begins on it (what continues from the page before is skipped).
  Lsn start{};
  /// Checked against the long page headers unless 0.
  std::uint64_t system_identifier = 0;
};

/// Decodes WAL records one after the other: page headers, records across pages and segments,
/// overwritten partial records, block references; each record's CRC-32C is checked. Bytes from
/// outside never harm it: what is not a valid record ends the reading. Memory is bounded by the
/// longest record (1020 MiB at most, by PostgreSQL's limit; read in pieces).
class WalReader {
 public:
  WalReader(WalReaderOptions options, WalInput input);

  /// The next record, valid until the next call; null at the end of what is readable, and then
  /// end_reason() says why. After a null the same call may be repeated when more WAL has come.
  const WalRecord* next();

  /// Where the next record starts, or would.
  Lsn position() const { return position_; }

  enum class End {
    None,         ///< the last next() gave a record
    NoMoreInput,  ///< the input had no bytes to give
    Invalid       ///< the bytes there are no valid record; normal where WAL was written last
  };
  End end() const { return end_; }
  /// What was wrong, in words: "incorrect resource manager data checksum in record at 0/1529F30".
  const std::string& end_reason() const { return end_reason_; }

 private:
  struct Page {
    ByteView bytes;
    std::uint64_t start = 0;
    std::uint16_t flags = 0;
    std::uint32_t remaining = 0;  // of a record that began on an earlier page
    std::uint64_t header_bytes = 0;
  };
  /// How far one attempt to read a record got.
  enum class Step { Done, Restart, Failed };

  bool fail(End end, std::string reason);
  bool invalid(std::string_view what);
  bool load_page(std::uint64_t page_start, Page& page);
  bool check_page(Page& page);
  bool skip_continuation();
  Step read_record();
  Step assemble(const Page& first, std::uint64_t start, std::uint32_t total);
  bool check_record_header(ByteView bytes, std::uint64_t start);
  bool decode(ByteView bytes);
  bool decode_block(std::uint8_t id, class Cursor& cursor, std::uint64_t& payload);

  WalReaderOptions options_;
  const VersionFacts& facts_;
  WalInput input_;
  Lsn position_;
  Lsn last_record_;  // zero before the first
  bool at_start_ = true;
  End end_ = End::None;
  std::string end_reason_;
  Bytes buffer_;                    // consecutive pages of one segment
  std::uint64_t buffer_start_ = 0;  // WAL position of its first byte
  std::size_t buffer_used_ = 0;
  Page checked_;     // the last page found right, while the buffer has it; without bytes: none
  Bytes assembled_;  // a record that crosses pages
  WalRecord record_;
};

}  // namespace holdfast::postgres
