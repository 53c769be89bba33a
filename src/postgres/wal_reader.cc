#include "postgres/wal_reader.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "base/assert.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "postgres/crc32c.h"
#include "postgres/page.h"
#include "postgres/wal_format_internal.h"

namespace holdfast::postgres {

/// Takes fields off the front of a record; `failed` once there were not enough bytes.
class Cursor {
 public:
  explicit Cursor(ByteView bytes) : rest_(bytes) {}

  template <typename T>
  T take() {
    if (rest_.size() < sizeof(T)) {
      failed_ = true;
      rest_ = {};
      return T{};
    }
    const T value = load<T>(rest_, 0);
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }
  ByteView take_bytes(std::size_t count) {
    if (rest_.size() < count) {
      failed_ = true;
      rest_ = {};
      return {};
    }
    const ByteView taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  std::size_t left() const { return rest_.size(); }
  bool failed() const { return failed_; }

 private:
  ByteView rest_;
  bool failed_ = false;
};

namespace {

constexpr std::size_t kReadAheadPages = 16;

}  // namespace

WalInput wal_directory_input(std::string directory, TimelineId timeline,
                             std::uint64_t wal_segment_bytes) {
  struct OpenSegment {
    UniqueFd file;
    std::uint64_t segment = 0;
  };
  // Owned by the copies of the function; the last of them closes the file.
  auto open = std::make_shared<OpenSegment>();
  return [=](std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
    if (!open->file || open->segment != segment) {
      const std::string path =
          directory + '/' + wal_segment_name(timeline, segment, wal_segment_bytes);
      open->file.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!open->file && errno == ENOENT) {
        open->file.reset(::open((path + ".partial").c_str(), O_RDONLY | O_CLOEXEC));
      }
      if (!open->file) {
        if (errno == ENOENT) return false;
        throw_errno(fmt::format("open WAL segment \"{}\"", path));
      }
      open->segment = segment;
    }
    std::size_t done = 0;
    while (done < out.size()) {
      const ssize_t got = ::pread(open->file.get(), out.data() + done, out.size() - done,
                                  static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        throw_errno(fmt::format("read WAL segment \"{}\"",
                                wal_segment_name(timeline, segment, wal_segment_bytes)));
      }
      if (got == 0) return false;
      done += static_cast<std::size_t>(got);
    }
    return true;
  };
}

WalReader::WalReader(WalReaderOptions options, WalInput input)
    : options_(options),
      facts_(version_facts(options.major)),
      input_(std::move(input)),
      position_(options.start) {
  if (!valid_wal_segment_bytes(options.wal_segment_bytes)) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("WAL segment size {} is impossible", options.wal_segment_bytes));
  }
}

bool has_wal_page(const WalInput& input, Lsn lsn, std::uint64_t wal_segment_bytes) {
  const Lsn page{lsn.value / kWalPageBytes * kWalPageBytes};
  Bytes bytes(kWalPageBytes);
  // Source: PostgreSQL src/include/access/xlog_internal.h (XLogPageHeaderData).
  return input(segment_of(page, wal_segment_bytes), page.value % wal_segment_bytes, bytes) &&
         load<std::uint64_t>(bytes, 8) == page.value;
}

bool WalReader::fail(End end, std::string reason) {
  end_ = end;
  end_reason_ = std::move(reason);
  // What was read may be half written; the next attempt reads it again.
  buffer_used_ = 0;
  return false;
}

bool WalReader::invalid(std::string_view what) {
  return fail(End::Invalid, fmt::format("{} at {}", what, to_string(position_)));
}

bool WalReader::load_page(std::uint64_t page_start, Page& page) {
  // Written so that positions at the very end of the number range do not wrap around.
  const bool buffered = page_start >= buffer_start_ && page_start - buffer_start_ < buffer_used_;
  if (buffered && checked_.start == page_start && !checked_.bytes.empty()) {
    page = checked_;
    return true;
  }
  checked_ = {};
  if (!buffered) {
    const std::uint64_t segment = page_start / options_.wal_segment_bytes;
    const std::uint64_t offset = page_start % options_.wal_segment_bytes;
    std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(
        kReadAheadPages * kWalPageBytes, options_.wal_segment_bytes - offset));
    buffer_.resize(kReadAheadPages * kWalPageBytes);
    buffer_used_ = 0;
    buffer_start_ = page_start;
    if (!input_(segment, offset, MutableByteView(buffer_).first(want))) {
      want = kWalPageBytes;
      if (!input_(segment, offset, MutableByteView(buffer_).first(want))) {
        return fail(End::NoMoreInput,
                    fmt::format("no WAL available at {}", to_string(Lsn{page_start})));
      }
    }
    buffer_used_ = want;
  }
  page.start = page_start;
  page.bytes = ByteView(buffer_).subspan(page_start - buffer_start_, kWalPageBytes);
  if (!check_page(page)) return false;
  checked_ = page;
  return true;
}

// Source: PostgreSQL src/backend/access/transam/xlogreader.c (XLogReaderValidatePageHeader). The
// timeline is not checked: the input decides which one to follow.
bool WalReader::check_page(Page& page) {
  const auto complain = [&](std::string_view what) {
    return fail(End::Invalid,
                fmt::format("{} in WAL page at {}", what, to_string(Lsn{page.start})));
  };
  const auto magic = load<std::uint16_t>(page.bytes, 0);
  page.flags = load<std::uint16_t>(page.bytes, 2);
  page.remaining = load<std::uint32_t>(page.bytes, 16);
  if (magic != facts_.wal_page_magic) {
    return complain(fmt::format("invalid magic number {:04X}", magic));
  }
  if ((page.flags & ~kAllPageFlags) != 0) {
    return complain(fmt::format("invalid info bits {:04X}", page.flags));
  }
  if (load<std::uint64_t>(page.bytes, 8) != page.start) {
    return complain(fmt::format("unexpected page address {}",
                                to_string(Lsn{load<std::uint64_t>(page.bytes, 8)})));
  }
  const bool first_of_segment = page.start % options_.wal_segment_bytes == 0;
  const bool has_long_header = (page.flags & kLongHeader) != 0;
  if (first_of_segment != has_long_header) return complain("wrong kind of page header");
  page.header_bytes = has_long_header ? kLongHeaderBytes : kShortHeaderBytes;
  if (has_long_header) {
    const auto system_identifier = load<std::uint64_t>(page.bytes, 24);
    if (options_.system_identifier != 0 && system_identifier != options_.system_identifier) {
      return complain("foreign system identifier");
    }
    if (load<std::uint32_t>(page.bytes, 32) != options_.wal_segment_bytes ||
        load<std::uint32_t>(page.bytes, 36) != kWalPageBytes) {
      return complain("unexpected segment or block size");
    }
  }
  return true;
}

// Moves a start at a page's first byte to the first record that begins on it or after.
bool WalReader::skip_continuation() {
  while (position_.value % kWalPageBytes == 0) {
    Page page;
    if (!load_page(position_.value, page)) return false;
    if ((page.flags & kFirstIsContinuation) == 0) return true;
    const std::uint64_t end = page.header_bytes + align8(page.remaining);
    position_.value += std::min(end, kWalPageBytes);
    if (end < kWalPageBytes) return true;
    // A record that ends with the page is not continued on the next one.
    if (end == kWalPageBytes) return true;
  }
  return true;
}

const WalRecord* WalReader::next() {
  end_ = End::None;
  end_reason_.clear();
  if (at_start_) {
    if (!skip_continuation()) return nullptr;
    at_start_ = false;
  }
  while (true) {
    switch (read_record()) {
      case Step::Done:
        position_ = record_.end;
        last_record_ = record_.start;
        return &record_;
      case Step::Restart:
        continue;
      case Step::Failed:
        return nullptr;
    }
  }
}

WalReader::Step WalReader::read_record() {
  std::uint64_t start = position_.value;
  Page page;
  if (!load_page(start - start % kWalPageBytes, page)) return Step::Failed;
  if (start == page.start) start += page.header_bytes;
  const std::uint64_t offset = start - page.start;
  if (offset < page.header_bytes || offset % 8 != 0) {
    invalid("invalid record offset");
    return Step::Failed;
  }
  if ((page.flags & kFirstIsContinuation) != 0 && offset == page.header_bytes) {
    invalid("a record's continuation where a record should begin");
    return Step::Failed;
  }
  // Aligned to 8 on the page, so the length at least lies on it whole.
  const auto total = load<std::uint32_t>(page.bytes, offset);
  if (total < kRecordHeaderBytes || total > kMaxRecordBytes) {
    invalid(fmt::format("invalid record length {}", total));
    return Step::Failed;
  }
  if (total > kWalPageBytes - offset) return assemble(page, start, total);

  const ByteView bytes = page.bytes.subspan(offset, total);
  record_.end = Lsn{start + align8(total)};
  record_.start = Lsn{start};
  return check_record_header(bytes, start) && decode(bytes) ? Step::Done : Step::Failed;
}

WalReader::Step WalReader::assemble(const Page& first, std::uint64_t start, std::uint32_t total) {
  const ByteView beginning = first.bytes.subspan(start - first.start);
  assembled_.assign(beginning.begin(), beginning.end());
  bool header_checked = false;
  std::uint64_t page_start = first.start;
  record_.start = Lsn{start};
  while (assembled_.size() < total) {
    // A wrong length must not make us read on for a gigabyte.
    if (!header_checked && assembled_.size() >= kRecordHeaderBytes) {
      if (!check_record_header(assembled_, start)) return Step::Failed;
      header_checked = true;
    }
    page_start += kWalPageBytes;
    Page page;
    if (!load_page(page_start, page)) return Step::Failed;
    if ((page.flags & kFirstIsOverwrite) != 0) {
      // A crash lost the rest of this record; a new one was written in its place from this page on.
      position_ = Lsn{page_start};
      return Step::Restart;
    }
    const std::uint64_t missing = total - assembled_.size();
    if ((page.flags & kFirstIsContinuation) == 0 || page.remaining != missing) {
      invalid(fmt::format("no continuation of {} bytes for the record", missing));
      return Step::Failed;
    }
    const ByteView piece = page.bytes.subspan(
        page.header_bytes, std::min<std::uint64_t>(missing, kWalPageBytes - page.header_bytes));
    assembled_.insert(assembled_.end(), piece.begin(), piece.end());
    record_.end = Lsn{page_start + page.header_bytes + align8(piece.size())};
  }
  if (!header_checked && !check_record_header(assembled_, start)) return Step::Failed;
  return decode(assembled_) ? Step::Done : Step::Failed;
}

bool WalReader::check_record_header(ByteView bytes, std::uint64_t start) {
  const auto previous = load<std::uint64_t>(bytes, 8);
  const bool right = last_record_.valid() ? previous == last_record_.value : previous < start;
  if (!right) return invalid(fmt::format("incorrect prev-link {}", to_string(Lsn{previous})));
  return true;
}

bool WalReader::decode(ByteView bytes) {
  const auto stored_crc = load<std::uint32_t>(bytes, kRecordCrcOffset);
  if (crc32c(bytes.first(kRecordCrcOffset), crc32c(bytes.subspan(kRecordHeaderBytes))) !=
      stored_crc) {
    return invalid("incorrect resource manager data checksum in record");
  }
  record_.xid = load<std::uint32_t>(bytes, 4);
  record_.previous = Lsn{load<std::uint64_t>(bytes, 8)};
  record_.info = load<std::uint8_t>(bytes, 16);
  record_.resource_manager = load<std::uint8_t>(bytes, 17);
  record_.toplevel_xid.reset();
  record_.blocks.clear();
  record_.main_data = {};
  record_.bytes = bytes;

  // First all headers, then what they describe in the same order; the headers end where the bytes
  // left are just those described.
  Cursor cursor(bytes.subspan(kRecordHeaderBytes));
  std::uint64_t payload = 0;
  std::size_t main_bytes = 0;
  while (cursor.left() > payload) {
    const auto id = cursor.take<std::uint8_t>();
    if (id <= kMaxBlockId) {
      if (!decode_block(id, cursor, payload)) return false;
    } else if (id == kIdDataShort || id == kIdDataLong) {
      main_bytes = id == kIdDataShort ? cursor.take<std::uint8_t>() : cursor.take<std::uint32_t>();
      payload += main_bytes;
      break;
    } else if (id == kIdOrigin) {
      cursor.take<std::uint16_t>();
    } else if (id == kIdToplevelXid && facts_.has_toplevel_xid) {
      record_.toplevel_xid = cursor.take<std::uint32_t>();
    } else {
      return invalid(fmt::format("invalid block id {} in record", id));
    }
  }
  if (cursor.failed() || cursor.left() != payload) return invalid("record with invalid length");
  for (auto& block : record_.blocks) {
    block.image = cursor.take_bytes(block.image.size());
    block.data = cursor.take_bytes(block.data.size());
  }
  record_.main_data = cursor.take_bytes(main_bytes);
  if (record_.resource_manager == kXlogResourceManager &&
      (record_.info & kInfoOwnBits) == kXlogSwitch) {
    // The rest of the segment is unused.
    const std::uint64_t segment_bytes = options_.wal_segment_bytes;
    record_.end.value = (record_.end.value + segment_bytes - 1) / segment_bytes * segment_bytes;
  }
  return true;
}

// Reads one block header. The views of image and data get their lengths only; their bytes come
// after all headers.
bool WalReader::decode_block(std::uint8_t id, Cursor& cursor, std::uint64_t& payload) {
  const auto flags = cursor.take<std::uint8_t>();
  const auto data_bytes = cursor.take<std::uint16_t>();
  const WalBlock* before = nullptr;
  WalBlock& block = record_.blocks.emplace_back();
  if (record_.blocks.size() > 1) before = &record_.blocks[record_.blocks.size() - 2];
  block.will_init = (flags & kWillInit) != 0;
  block.has_image = (flags & kHasImage) != 0;
  if ((flags & kForkMask) > static_cast<std::uint8_t>(Fork::Init)) {
    return invalid(fmt::format("invalid fork of block {} in record", id));
  }
  block.key.fork = static_cast<Fork>(flags & kForkMask);
  if (((flags & kHasData) != 0) != (data_bytes != 0)) {
    return invalid(fmt::format("inconsistent data length of block {} in record", id));
  }
  std::size_t image_bytes = 0;
  if (block.has_image) {
    image_bytes = cursor.take<std::uint16_t>();
    block.hole_offset = cursor.take<std::uint16_t>();
    block.image_info = cursor.take<std::uint8_t>();
    block.image_applies = (block.image_info & facts_.image_apply_bit) != 0;
    const bool has_hole = (block.image_info & kImageHasHole) != 0;
    const bool compressed = (block.image_info & facts_.image_compressed_bits) != 0;
    if (compressed) {
      block.hole_bytes = has_hole ? cursor.take<std::uint16_t>() : std::uint16_t{0};
    } else {
      block.hole_bytes = static_cast<std::uint16_t>(kPageBytes - std::min(image_bytes, kPageBytes));
    }
    const bool right = compressed ? image_bytes < kPageBytes
                                  : image_bytes + block.hole_bytes == kPageBytes &&
                                        has_hole == (block.hole_bytes != 0);
    if (!right || block.hole_offset + std::size_t{block.hole_bytes} > kPageBytes) {
      return invalid(fmt::format("inconsistent image of block {} in record", id));
    }
  }
  if ((flags & kSameRelation) != 0) {
    if (before == nullptr) return invalid("same relation as no block in record");
    block.key.relation = before->key.relation;
  } else {
    block.key.relation.tablespace = cursor.take<std::uint32_t>();
    block.key.relation.database = cursor.take<std::uint32_t>();
    block.key.relation.relation = cursor.take<std::uint32_t>();
  }
  block.key.block = cursor.take<std::uint32_t>();
  payload += image_bytes + data_bytes;
  if (cursor.failed() || payload > cursor.left()) {
    return invalid(fmt::format("block {} exceeds its record", id));
  }
  // Lengths for now; decode() sets the places once the headers are read.
  block.image = ByteView(record_.bytes).first(std::min(image_bytes, record_.bytes.size()));
  block.data =
      ByteView(record_.bytes).first(std::min<std::size_t>(data_bytes, record_.bytes.size()));
  return true;
}

}  // namespace holdfast::postgres
