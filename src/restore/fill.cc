#include "restore/fill.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/wal_archive.h"
#include "collection/wal_recovery.h"
#include "io/aligned_buffer.h"
#include "io/file.h"
#include "io/throttle.h"
#include "postgres/lsn.h"
#include "restore/block_claims.h"
#include "restore/chain_plan.h"
#include "restore/frame_reader.h"
#include "restore/open_files.h"
#include "restore/piece_batch.h"

namespace holdfast::restore {
namespace {

using collection::FrameBlocks;
using collection::kBlockBytes;
using collection::kFrameBytes;

/// Calls `each(first, count, at)` for every run of neighbours in `blocks`, of which `held` has all:
/// `at` is where the first of them lies, in blocks, among those that `held` has.
template <typename Each>
void for_each_run(const FrameBlocks& held, const FrameBlocks& blocks, const Each& each) {
  std::size_t at = 0;
  for (std::size_t block = 0; block < blocks.size();) {
    if (!blocks.test(block)) {
      if (held.test(block)) ++at;
      ++block;
      continue;
    }
    const std::size_t first = block;
    while (block < blocks.size() && blocks.test(block)) ++block;
    each(first, block - first, at);
    at += block - first;
  }
}

/// All workers together stay far below the 1024 descriptors that a process may usually have: an
/// open file takes up to two.
std::size_t open_files_of_one(std::size_t workers) {
  constexpr std::size_t kOpenFiles = 256;
  return std::clamp<std::size_t>(kOpenFiles / std::max<std::size_t>(workers, 1), 4, 64);
}

/// What all workers share.
class Filler {
 public:
  explicit Filler(const FillRequest& request)
      : request_(request),
        target_(request.chain.back()),
        throttle_(request.max_rate),
        plan_(request.chain, request.layout, request.store) {
    for (const FileTarget& file : request.layout.files) {
      if (file.kind == collection::proto::FILE_KIND_CONTROL) control_.resize(file.size);
    }
  }

  Bytes run(const Stop& stop) {
    const std::size_t workers = std::max<std::size_t>(request_.workers, 1);
    plan_.read_incrementals(workers, stop);
    const std::size_t tasks = segments() + plan_.groups() + plan_.full_packs();
    std::atomic<std::size_t> next = 0;
    run_workers(workers, stop, [&](std::size_t, const Stop& worker_stop) {
      if (next >= tasks) return;
      Worker worker(request_, plan_, throttle_);
      for (std::size_t i = next++; i < tasks; i = next++) {
        worker_stop.check();
        restore(worker, i, worker_stop);
      }
    });
    plan_.require_complete();
    return std::move(control_);
  }

 private:
  /// One worker's means.
  struct Worker {
    Worker(const FillRequest& request, const ChainPlan& plan, io::Throttle& throttle)
        : files(request.files, open_files_of_one(request.workers)),
          reader(request.store, throttle),
          batch(plan, reader) {}
    OpenFiles files;
    FrameReader reader;
    PieceBatch batch;
    io::AlignedBuffer frame{kFrameBytes};
    io::AlignedBuffer piece{kFrameBytes};
  };

  std::size_t segments() const {
    return request_.layout.partial ? 0 : static_cast<std::size_t>(target_.wal_size());
  }

  void restore(Worker& worker, std::size_t task, const Stop& stop) {
    if (task < segments()) {
      restore_wal(target_.wal(static_cast<int>(task)), stop);
      return;
    }
    request_.before_pack();
    task -= segments();
    if (task < plan_.groups()) {
      restore_group(worker, plan_.frames_of_group(task), stop);
    } else {
      restore_full_pack(worker, plan_.claim_full_pack(task - plan_.groups(), stop), stop);
    }
  }

  /// Frames of which the full backup has nothing.
  void restore_group(Worker& worker, const std::vector<std::span<const WantedFrame>>& frames,
                     const Stop& stop) {
    for (std::size_t first = 0, last = 0; first < frames.size(); first = last) {
      worker.batch.clear();
      for (; last < frames.size() && worker.batch.has_room(frames[last]); ++last) {
        add_pieces(worker, frames[last], stop);
      }
      worker.batch.fetch(stop);
      for (std::size_t i = first; i < last; ++i) {
        const FrameBlocks filled = lay_over(worker, frames[i], {}, stop);
        const WantedFrame& one = frames[i].front();
        write(worker, one.claim.file, one.entry.frame, filled);
      }
    }
  }

  void restore_full_pack(Worker& worker, const std::vector<WantedFrame>& frames, const Stop& stop) {
    std::vector<const WantedFrame*> wanted;
    for (std::size_t first = 0, last = 0; first < frames.size(); first = last) {
      worker.batch.clear();
      wanted.clear();
      for (; last < frames.size() && worker.batch.has_room(pieces_over(frames[last])); ++last) {
        stop.check();
        if (pieces_over(frames[last]).empty() && in_place(worker, frames[last])) {
          request_.progress(bytes_of(frames[last]));
          continue;
        }
        wanted.push_back(&frames[last]);
        // Whatever of them is in place: the frame is written whole.
        for (const WantedFrame& piece : pieces_over(frames[last])) worker.batch.add(piece);
      }
      if (wanted.empty()) continue;
      worker.batch.fetch(stop);
      const storage::ObjectKey& key = plan_.key(wanted.front()->pack);
      worker.reader.fetch(
          key, wanted,
          [&](const WantedFrame& one, ByteView stored) {
            worker.reader.unpack(key, one, stored, worker.frame.view().first(one.entry.plain_bytes),
                                 stop);
            const FrameBlocks filled = lay_over(worker, pieces_over(one), one.claim.blocks, stop);
            write(worker, one.claim.file, one.entry.frame, filled);
          },
          stop);
    }
  }

  std::span<const WantedFrame> pieces_over(const WantedFrame& base) const {
    return plan_.pieces_of(base.claim.file, base.entry.frame);
  }

  /// Those that are not in place.
  void add_pieces(Worker& worker, std::span<const WantedFrame> pieces, const Stop& stop) {
    for (const WantedFrame& piece : pieces) {
      stop.check();
      if (in_place(worker, piece)) {
        request_.progress(bytes_of(piece));
      } else {
        worker.batch.add(piece);
      }
    }
  }

  /// Puts pieces of a frame over what `filled` says is in worker.frame; gives what then is.
  FrameBlocks lay_over(Worker& worker, std::span<const WantedFrame> pieces, FrameBlocks filled,
                       const Stop& stop) {
    for (const WantedFrame& piece : pieces) {
      const std::optional<ByteView> stored = worker.batch.stored(piece, stop);
      if (!stored) continue;
      const std::size_t bytes = piece.entry.plain_bytes;
      const FrameBlocks held = piece.entry.blocks();
      // The first may go where it belongs at once, with blocks that are not wanted of it.
      const bool at_once = filled.none() && held == collection::leading_blocks(bytes);
      const MutableByteView plain = (at_once ? worker.frame : worker.piece).view().first(bytes);
      worker.reader.unpack(plan_.key(piece.pack), piece, *stored, plain, stop);
      if (!at_once) {
        for_each_run(held, piece.claim.blocks,
                     [&](std::size_t first, std::size_t count, std::size_t at) {
                       const std::size_t from = at * kBlockBytes;
                       std::memcpy(worker.frame.data() + first * kBlockBytes, plain.data() + from,
                                   std::min(count * kBlockBytes, bytes - from));
                     });
      }
      filled |= piece.claim.blocks;
    }
    return filled;
  }

  std::uint64_t bytes_of(const WantedFrame& one) const {
    return restore::bytes_of(one.claim.blocks,
                             plan_.bytes_in_frame(one.claim.file, one.entry.frame));
  }

  OpenFiles::Place place_of(std::size_t file, std::uint32_t frame,
                            std::uint64_t offset_in_frame) const {
    const FileTarget& target = request_.layout.files[file];
    return {.path = target.path,
            .file_size = target.size,
            .offset = std::uint64_t{frame} * kFrameBytes + offset_in_frame};
  }

  bool is_control(std::size_t file) const {
    return request_.layout.files[file].kind == collection::proto::FILE_KIND_CONTROL;
  }

  /// Whether the blocks that are wanted of a frame are in the file. Overwrites worker.frame.
  bool in_place(Worker& worker, const WantedFrame& one) {
    const std::size_t file = one.claim.file;
    if (is_control(file) || !request_.trust_content) return false;
    const std::uint64_t bytes = plan_.bytes_in_frame(file, one.entry.frame);
    // A file that we have just made reads as zeros, and nothing else is written to a frame that is
    // wanted whole.
    if (!request_.may_hold_content[file]) {
      return one.entry.codec == collection::Codec::Zero && bytes_of(one) == bytes;
    }
    // The checksum is of all blocks that the frame holds.
    if (one.claim.blocks != one.entry.blocks()) return false;
    const MutableByteView plain = worker.frame.view();
    if (!worker.files.read(place_of(file, one.entry.frame, 0), bytes, plain)) return false;
    std::size_t held = bytes;
    if (one.entry.partial) held = gather(one.entry.partial_blocks, plain);
    return held == one.entry.plain_bytes &&
           collection::hash128(plain.first(held)) == one.entry.hash;
  }

  /// Moves the blocks of a frame together; gives how many bytes they are.
  static std::size_t gather(const FrameBlocks& blocks, MutableByteView frame) {
    std::size_t at = 0;
    for (std::size_t block = 0; block < blocks.size(); ++block) {
      if (!blocks.test(block)) continue;
      std::memmove(frame.data() + at, frame.data() + block * kBlockBytes, kBlockBytes);
      at += kBlockBytes;
    }
    return at;
  }

  /// Writes `blocks` of the frame in worker.frame: all of a whole one at once.
  void write(Worker& worker, std::size_t file, std::uint32_t frame, const FrameBlocks& blocks) {
    const std::uint64_t end = plan_.bytes_in_frame(file, frame);
    const FrameBlocks all = collection::leading_blocks(kFrameBytes);
    for_each_run(all, blocks, [&](std::size_t first, std::size_t count, std::size_t) {
      const std::uint64_t begin = std::uint64_t{first} * kBlockBytes;
      const std::uint64_t bytes = std::min<std::uint64_t>(begin + count * kBlockBytes, end) - begin;
      const MutableByteView content = worker.frame.view().subspan(begin, bytes);
      if (is_control(file)) {
        std::ranges::copy(
            content, control_.begin() +
                         static_cast<std::ptrdiff_t>(std::uint64_t{frame} * kFrameBytes + begin));
      } else {
        worker.files.write(place_of(file, frame, begin), content);
      }
    });
    request_.progress(restore::bytes_of(blocks, end));
  }

  void restore_wal(const collection::proto::WalSegment& wal, const Stop& stop) {
    const auto& instance = target_.instance();
    const std::uint64_t bytes = instance.wal_segment_bytes();
    const std::string name = postgres::wal_segment_name(wal.timeline(), wal.segment(), bytes);
    const std::string path = fmt::format("{}/pg_wal/{}", request_.layout.root, name);
    // Never through a link that somebody left.
    io::remove_file(request_.files, path);
    const UniqueFd fd = io::open_file(request_.files, path, O_WRONLY | O_CREAT | O_EXCL,
                                      request_.layout.file_mode());
    if (::fchmod(fd.get(), request_.layout.file_mode()) != 0) {
      throw_errno(fmt::format("set permissions of file \"{}\"", path));
    }
    const auto written = collection::get_wal_or_tail(
        request_.store,
        {.system_identifier = instance.system_identifier(),
         .timeline = wal.timeline(),
         .segment = wal.segment(),
         .segment_bytes = bytes},
        [&](std::uint64_t offset, ByteView content) {
          throttle_.take(content.size(), stop);
          io::pwrite_all(request_.files, fd.get(), content, offset, path);
        },
        stop);
    if (!written) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("WAL segment {} of timeline {} is missing in the collection", name,
                              wal.timeline()));
    }
    const std::uint64_t start = wal.segment() * bytes;
    const std::uint64_t needed =
        request_.wal_end == 0 ? bytes : std::min(bytes, request_.wal_end - start);
    if (*written < needed) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("WAL segment {} in the collection has {} bytes instead of {}", name,
                              *written, needed));
    }
    if (*written != bytes && request_.files.truncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
      throw_errno(fmt::format("set size of file \"{}\"", path));
    }
    request_.progress(bytes);
  }

  const FillRequest& request_;
  const collection::proto::Manifest& target_;
  io::Throttle throttle_;
  ChainPlan plan_;
  Bytes control_;  // its frames are written by one worker each, into places of their own
};

}  // namespace

Bytes fill_files(const FillRequest& request, const Stop& stop) { return Filler(request).run(stop); }

}  // namespace holdfast::restore
