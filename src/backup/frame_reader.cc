#include "backup/frame_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "backup/read_error.h"
#include "collection/format.h"
#include "postgres/page.h"

namespace holdfast::backup {

namespace {

using collection::kFrameBytes;
using collection::proto::FileKind;

constexpr std::size_t kBufferAlignment = 4096;
/// Waits before each further look at a page with a wrong checksum. A write to the page cache lasts
/// microseconds; the last waits are for a writer that was descheduled in its middle.
constexpr std::array kRereadAfter = {std::chrono::milliseconds(0), std::chrono::milliseconds(5),
                                     std::chrono::milliseconds(20), std::chrono::milliseconds(75)};

}  // namespace

void FrameReader::Free::operator()(std::byte* bytes) const { std::free(bytes); }

FrameReader::FrameReader(const FileTable& files, std::filesystem::path data_directory,
                         PageChecksums checksums, std::filesystem::path outside_root)
    : files_(files),
      data_directory_(std::move(data_directory)),
      checksums_(checksums),
      outside_root_(std::move(outside_root)),
      buffer_(static_cast<std::byte*>(std::aligned_alloc(kBufferAlignment, kFrameBytes))) {
  if (!buffer_) throw std::bad_alloc();
}

FrameReader::~FrameReader() = default;

bool FrameReader::open(std::size_t position) {
  if (open_position_ == position) return static_cast<bool>(file_);
  open_position_.reset();
  const std::string path = files_.path(position);
  // An absolute path is that of a configuration file from elsewhere.
  open_path_ =
      path.starts_with('/') ? outside_root_.string() + path : (data_directory_ / path).string();
  relation_.reset();
  if (checksums_ == PageChecksums::On && files_.kind(position) == FileKind::FILE_KIND_RELATION) {
    relation_ = postgres::parse_relation_path(path);
  }
  file_.reset(::open(open_path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file_ && errno != ENOENT) throw_unreadable("open file", open_path_, errno);
  open_position_ = position;
  return static_cast<bool>(file_);
}

std::size_t FrameReader::pread(MutableByteView into, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got = ::pread(file_.get(), into.data() + done, into.size() - done,
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_unreadable("read file", open_path_, errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  bytes_read_ += done;
  return done;
}

FrameRead FrameReader::read(std::size_t position, std::uint32_t frame, const Stop& stop) {
  FrameRead result;
  const bool was_open = open_position_ == position;
  if (!open(position)) {
    result.state = FrameRead::State::Gone;
    return result;
  }
  const std::uint64_t offset = std::uint64_t{frame} * kFrameBytes;
  const std::uint64_t size = files_[position].size;
  const std::size_t planned =
      static_cast<std::size_t>(std::min<std::uint64_t>(kFrameBytes, size - offset));
  prefetch(frame, size, was_open ? Prefetch::Further : Prefetch::Window);

  // Replay completes what grows under WAL. Other files (configuration) are replaced by the server
  // or a user, and the beginning of one would be of no use, so small ones are read to their end.
  const bool to_its_end =
      size <= kFrameBytes && files_.kind(position) != FileKind::FILE_KIND_RELATION;
  const std::size_t got = pread({buffer_.get(), to_its_end ? kFrameBytes : planned}, offset);
  result.bytes = {buffer_.get(), got};
  result.end = got;
  if (got < planned) result.state = FrameRead::State::Short;
  if (got > planned) result.state = FrameRead::State::Grown;
  if (relation_) {
    const std::size_t left = verify(result, {.at = 0, .bytes = got, .offset = offset}, stop);
    if (left < got) {
      result.state = FrameRead::State::Short;
      result.bytes = result.bytes.first(left);
      result.end = left;
    }
  }
  return result;
}

FrameRead FrameReader::read_blocks(std::size_t position, std::uint32_t frame,
                                   const collection::FrameBlocks& blocks, const Stop& stop) {
  FrameRead result;
  const bool was_open = open_position_ == position;
  if (!open(position)) {
    result.state = FrameRead::State::Gone;
    return result;
  }
  const std::uint64_t frame_offset = std::uint64_t{frame} * kFrameBytes;
  // What lies between the blocks is not wanted, so the kernel must not read ahead by itself.
  if (!was_open) static_cast<void>(posix_fadvise(file_.get(), 0, 0, POSIX_FADV_RANDOM));
  announce(frame_offset, blocks);

  std::size_t used = 0;
  for (std::size_t block = 0; block < blocks.size();) {
    if (!blocks.test(block)) {
      ++block;
      continue;
    }
    const std::size_t first = block;
    while (block < blocks.size() && blocks.test(block)) ++block;
    Stretch run{.at = used,
                .bytes = (block - first) * postgres::kPageBytes,
                .offset = frame_offset + first * postgres::kPageBytes};
    std::size_t got = pread({buffer_.get() + used, run.bytes}, run.offset);
    const bool cut = got < run.bytes;
    // PostgreSQL ignores what follows the last whole page: it was being added when we read it.
    run.bytes = got / postgres::kPageBytes * postgres::kPageBytes;
    got = relation_ ? verify(result, run, stop) : run.bytes;
    for (std::size_t i = 0; i < got / postgres::kPageBytes; ++i) result.blocks.set(first + i);
    used += got;
    if (cut || got < run.bytes) {
      result.state = FrameRead::State::Short;
      result.end = first * postgres::kPageBytes + got;
      break;
    }
  }
  result.bytes = {buffer_.get(), used};
  return result;
}

void FrameReader::announce(std::uint64_t frame_offset, const collection::FrameBlocks& blocks) {
  // All of them at once, so that the disk need not wait for us between two.
  for (std::size_t block = 0; block < blocks.size();) {
    if (!blocks.test(block)) {
      ++block;
      continue;
    }
    const std::size_t first = block;
    while (block < blocks.size() && blocks.test(block)) ++block;
    static_cast<void>(posix_fadvise(
        file_.get(), static_cast<off_t>(frame_offset + first * postgres::kPageBytes),
        static_cast<off_t>((block - first) * postgres::kPageBytes), POSIX_FADV_WILLNEED));
  }
}

void FrameReader::keep_blocks(FrameRead& read,
                              const std::function<bool(std::size_t block, ByteView page)>& wanted) {
  std::size_t used = 0;
  const std::size_t whole = read.bytes.size() / postgres::kPageBytes;
  for (std::size_t block = 0; block < whole; ++block) {
    const ByteView page{buffer_.get() + block * postgres::kPageBytes, postgres::kPageBytes};
    if (!wanted(block, page)) continue;
    std::memmove(buffer_.get() + used, page.data(), page.size());
    used += page.size();
    read.blocks.set(block);
  }
  read.bytes = {buffer_.get(), used};
}

void FrameReader::prefetch(std::uint32_t frame, std::uint64_t size, Prefetch what) {
  // Asking again for what is in memory costs time for each of its pages, so each frame is asked for
  // once: all readers together go through a file frame by frame.
  const std::uint64_t end = (std::uint64_t{frame} + 1 + read_ahead_) * kFrameBytes;
  const std::uint64_t begin =
      what == Prefetch::Window ? (std::uint64_t{frame} + 1) * kFrameBytes : end - kFrameBytes;
  if (read_ahead_ == 0 || begin >= size) return;
  // A hint: its failure changes nothing.
  static_cast<void>(posix_fadvise(file_.get(), static_cast<off_t>(begin),
                                  static_cast<off_t>(std::min(end, size) - begin),
                                  POSIX_FADV_WILLNEED));
}

std::size_t FrameReader::verify(FrameRead& read, const Stretch& stretch, const Stop& stop) {
  // What follows the last whole page was being added when we read it: PostgreSQL ignores it.
  const std::size_t whole = stretch.bytes / postgres::kPageBytes * postgres::kPageBytes;
  const auto first_block =
      static_cast<std::uint32_t>(relation_->segment * postgres::kRelationSegmentBlocks +
                                 stretch.offset / postgres::kPageBytes);
  std::size_t left = stretch.bytes;
  bad_.clear();
  postgres::verify_pages({buffer_.get() + stretch.at, whole}, first_block, bad_);
  if (bad_.empty()) return left;

  for (const auto wait : kRereadAfter) {
    stop.sleep(wait);
    for (auto block = bad_.begin(); block != bad_.end();) {
      const std::size_t at = std::size_t{*block - first_block} * postgres::kPageBytes;
      const MutableByteView page{buffer_.get() + stretch.at + at, postgres::kPageBytes};
      if (pread(page, stretch.offset + at) < page.size()) {
        // Truncated since the first read: what is left of the frame ends here.
        left = at;
        bad_.erase(block, bad_.end());
        break;
      }
      block = postgres::page_is_valid(page, *block) ? bad_.erase(block) : block + 1;
    }
    if (bad_.empty()) return left;
  }
  for (const std::uint32_t block : bad_) {
    read.suspects.push_back(
        {.relation = relation_->relation, .fork = relation_->fork, .block = block});
  }
  return left;
}

}  // namespace holdfast::backup
