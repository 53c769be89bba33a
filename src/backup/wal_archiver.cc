#include "backup/wal_archiver.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <utility>

#include "backup/wal_archive_end.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/worker_pool.h"
#include "collection/block_map_store.h"
#include "collection/wal_tail.h"
#include "io/file.h"
#include "io/file_system.h"

namespace holdfast::backup {

namespace {

/// Segments that are archived before the server hears of it.
constexpr std::uint64_t kArchiveBatch = 8;
constexpr std::size_t kWorkers = 2;

// Source: PostgreSQL src/include/access/xlog_internal.h (XLogPageHeaderData).
constexpr std::size_t kPageAddressAt = 8;

/// Throws unless every page of `bytes`, which begin at `start`, is that of its place. A page that
/// was never written is all zeros: what a switch leaves of a segment.
void check_pages(ByteView bytes, postgres::Lsn start, const std::string& path) {
  for (std::size_t at = 0; at + postgres::kWalPageBytes <= bytes.size();
       at += postgres::kWalPageBytes) {
    const ByteView page = bytes.subspan(at, postgres::kWalPageBytes);
    const auto address = load<std::uint64_t>(page, kPageAddressAt);
    if (address == start.value + at) continue;
    const bool zero =
        std::all_of(page.begin(), page.end(), [](std::byte byte) { return byte == std::byte{0}; });
    if (zero) continue;
    throw ArchiveEnded(Error(sqlstate::kDataCorrupted,
                             fmt::format("WAL file \"{}\" is not what it should be", path))
                           .detail(fmt::format("The page at {} says that it is the one at {}.",
                                               to_string(postgres::Lsn{start.value + at}),
                                               to_string(postgres::Lsn{address}))));
  }
}

/// Reads a segment file of the server's, checking its pages.
class SegmentFile {
 public:
  SegmentFile(std::string path, postgres::Lsn start)
      : path_(std::move(path)),
        start_(start),
        file_(io::open_file(io::FileSystem::real(), path_, O_RDONLY)) {}

  /// `offset` must be the start of a page.
  void read(std::uint64_t offset, MutableByteView into) const {
    if (io::pread_up_to(io::FileSystem::real(), file_.get(), into, offset, path_) != into.size()) {
      throw ArchiveEnded(
          Error(sqlstate::kDataCorrupted, fmt::format("WAL file \"{}\" is too short", path_)));
    }
    check_pages(into, postgres::Lsn{start_.value + offset}, path_);
  }

 private:
  std::string path_;
  postgres::Lsn start_;
  UniqueFd file_;
};

}  // namespace

/// Lets segments appear one after the other, however many are made ready at once: should the host
/// be lost for good, the archive has no hole.
class WalArchiver::Turns {
 public:
  explicit Turns(std::uint64_t first) : next_(first) {}

  void wait(std::uint64_t segment, const Stop& stop) {
    MutexLock lock(mutex_);
    changed_.wait(lock, stop.token(), [&]() HF_REQUIRES(mutex_) { return next_ == segment; });
    stop.check();
  }
  void end(std::uint64_t segment) {
    MutexLock lock(mutex_);
    next_ = segment + 1;
    changed_.notify_all();
  }

 private:
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::uint64_t next_ HF_GUARDED_BY(mutex_);
};

WalArchiver::WalArchiver(WalArchiverOptions options, std::uint64_t segment)
    : options_(std::move(options)),
      next_(segment),
      maps_(
          {.system_identifier = options_.system_identifier,
           .major = options_.major,
           .wal_segment_bytes = options_.wal_segment_bytes,
           .segment = segment,
           .path = options_.path},
          wal_directory_input(options_.wal_directory, options_.path, options_.wal_segment_bytes)) {}

collection::WalSegmentId WalArchiver::id_of(std::uint64_t segment) const {
  return {.system_identifier = options_.system_identifier,
          .timeline = options_.path.of_segment(segment, options_.wal_segment_bytes),
          .segment = segment,
          .segment_bytes = options_.wal_segment_bytes};
}

std::string WalArchiver::path_of(std::uint64_t segment) const {
  return options_.wal_directory + '/' +
         postgres::wal_segment_name(options_.path.of_segment(segment, options_.wal_segment_bytes),
                                    segment, options_.wal_segment_bytes);
}

bool WalArchiver::has_first_segment() const {
  try {
    Bytes page(postgres::kWalPageBytes);
    SegmentFile(path_of(next_), postgres::segment_start(next_, options_.wal_segment_bytes))
        .read(0, page);
    return load<std::uint64_t>(page, kPageAddressAt) != 0;
  } catch (const Error& error) {
    if (error.state() == sqlstate::kUndefinedFile || error.state() == sqlstate::kDataCorrupted) {
      return false;
    }
    throw;
  }
}

postgres::Lsn WalArchiver::durable() const {
  return postgres::segment_start(std::min(next_, maps_.segment()), options_.wal_segment_bytes);
}

postgres::Lsn WalArchiver::archived() const {
  const std::uint64_t tail = tails_.empty() ? 0 : tails_.back();
  return postgres::Lsn{postgres::segment_start(next_, options_.wal_segment_bytes).value + tail};
}

void WalArchiver::read_maps(postgres::Lsn flushed, const Stop& stop) {
  maps_.read_to(
      flushed,
      [&](const collection::WalSegmentId& id, const collection::BlockMap& map) {
        collection::put_block_map(*options_.store, id, map, stop);
      },
      stop);
}

bool WalArchiver::archive_some(WalArchiveMode mode, postgres::Lsn flushed, const Stop& stop) {
  require_same_history(mode, flushed, stop);
  const std::uint64_t finished = segment_of(flushed, options_.wal_segment_bytes);
  const std::uint64_t end = std::min(finished, next_ + kArchiveBatch);
  if (next_ >= end) {
    // The rest of a record may have come that a finished segment's map waits for.
    const auto before = maps_.segment();
    read_maps(flushed, stop);
    return maps_.segment() != before;
  }
  if (mode == WalArchiveMode::Full) {
    mark(stop);
    learn_tails(stop);
    std::atomic<std::uint64_t> drawn = next_;
    Turns turns(next_);
    run_workers(std::min<std::size_t>(kWorkers, end - next_), stop,
                [&](std::size_t, const Stop& worker_stop) {
                  for (std::uint64_t segment = drawn++; segment < end; segment = drawn++) {
                    put_segment(segment, turns, worker_stop);
                    turns.end(segment);
                  }
                });
    remove_tails(next_, stop);
  }
  const bool last = end == finished;
  read_maps(last ? flushed : postgres::segment_start(end, options_.wal_segment_bytes), stop);
  next_ = end;
  tails_.clear();
  return true;
}

void WalArchiver::put_segment(std::uint64_t segment, Turns& turns, const Stop& stop) {
  const SegmentFile file(path_of(segment),
                         postgres::segment_start(segment, options_.wal_segment_bytes));
  collection::put_wal_segment(
      *options_.store, id_of(segment),
      [&](std::uint64_t offset, MutableByteView into) { file.read(offset, into); },
      options_.compression, stop, [&] { turns.wait(segment, stop); });
}

void WalArchiver::mark(const Stop& stop) {
  if (marked_) return;
  collection::mark_wal_archive(*options_.store, options_.system_identifier, stop);
  marked_ = true;
}

bool WalArchiver::put_tail(postgres::Lsn flushed, const Stop& stop) {
  require_same_history(WalArchiveMode::Full, flushed, stop);
  mark(stop);
  learn_tails(stop);
  const postgres::Lsn start = postgres::segment_start(next_, options_.wal_segment_bytes);
  if (flushed <= archived() || segment_of(flushed, options_.wal_segment_bytes) != next_) {
    return false;
  }
  const std::uint64_t bytes = flushed.value - start.value;
  const SegmentFile file(path_of(next_), start);
  const bool put = collection::put_wal_tail(
      *options_.store, id_of(next_), bytes,
      [&](std::uint64_t offset, MutableByteView into) { file.read(offset, into); },
      options_.compression, stop);
  if (!put) return false;
  // The longest one replaces all others.
  remove_tails(next_, stop);
  tails_.push_back(bytes);
  return true;
}

/// Throws when what the archive has before the first segment, or of it, is known to be of another
/// history than the server's. What cannot be told yet is looked at again.
void WalArchiver::require_same_history(WalArchiveMode mode, postgres::Lsn flushed,
                                       const Stop& stop) {
  if (!continues_maps_) continues_maps_ = continues_maps(flushed, stop);
  if (mode == WalArchiveMode::Full && !continues_tail_) {
    continues_tail_ = continues_tail(flushed, stop);
  }
}

/// The first record must name the one before it that the archive has. False while it is not there.
bool WalArchiver::continues_maps(postgres::Lsn flushed, const Stop& stop) {
  if (next_ == 0) return true;
  if (!map_before_) {
    map_before_ = collection::get_block_map(*options_.store, id_of(next_ - 1), stop);
    // The archive begins here, or an earlier release made the map.
    if (!map_before_ || !map_before_->records().known()) return true;
  }
  const postgres::Lsn start = postgres::segment_start(next_, options_.wal_segment_bytes);
  if (flushed <= start) return false;
  postgres::WalReader reader(
      {.major = options_.major,
       .wal_segment_bytes = options_.wal_segment_bytes,
       .start = start,
       .system_identifier = options_.system_identifier},
      wal_directory_input(options_.wal_directory, options_.path, options_.wal_segment_bytes));
  const postgres::WalRecord* record = reader.next();
  // Behind the flushed position a crash may write it anew.
  if (record == nullptr || reader.position() > flushed) return false;
  const postgres::Lsn last = map_before_->records().last;
  map_before_.reset();
  if (record->previous == last) return true;
  throw server_was_set_back(
      fmt::format("The last record before {} is at {} on the server, at {} in the archive.",
                  to_string(start), to_string(record->previous), to_string(last)),
      start);
}

/// What the server has written of the segment must begin with what is archived of it. False while
/// it has less, as a standby may.
bool WalArchiver::continues_tail(postgres::Lsn flushed, const Stop& stop) {
  learn_tails(stop);
  if (tails_.empty()) return true;
  const postgres::Lsn start = postgres::segment_start(next_, options_.wal_segment_bytes);
  if (flushed < archived()) return false;
  const SegmentFile file(path_of(next_), start);
  Bytes written;
  collection::get_wal_tail(
      *options_.store, id_of(next_), tails_.back(),
      [&](std::uint64_t at, ByteView frame) {
        // Read by whole pages, which are checked.
        const std::uint64_t pages = (frame.size() + postgres::kWalPageBytes - 1) /
                                    postgres::kWalPageBytes * postgres::kWalPageBytes;
        written.resize(pages);
        file.read(at, written);
        if (std::ranges::equal(ByteView(written).first(frame.size()), frame)) return;
        throw server_was_set_back(
            fmt::format("What it has written from {} on is not what is archived of it.",
                        to_string(postgres::Lsn{start.value + at})),
            postgres::Lsn{start.value + at});
      },
      stop);
  return true;
}

void WalArchiver::learn_tails(const Stop& stop) {
  if (std::exchange(tails_listed_, true)) return;
  tails_ = collection::list_wal_tails(*options_.store, id_of(next_), stop);
  std::reverse(tails_.begin(), tails_.end());
}

void WalArchiver::remove_tails(std::uint64_t segment, const Stop& stop) {
  try {
    for (const std::uint64_t length : tails_) {
      options_.store->remove(collection::wal_tail_key(id_of(segment), length), stop);
    }
  } catch (const Error& error) {
    // A write-once store keeps them: they cost room, nothing else.
    log::debug("could not remove WAL that the archive has twice: {}", error.message());
  }
  tails_.clear();
}

}  // namespace holdfast::backup
