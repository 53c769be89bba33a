#include "restore/fill.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <unordered_set>

#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/pack.h"
#include "collection/wal_archive.h"
#include "collection/wal_recovery.h"
#include "io/file.h"
#include "io/throttle.h"
#include "postgres/lsn.h"
#include "restore/block_claims.h"
#include "restore/frame_assembly.h"
#include "restore/frame_reader.h"
#include "restore/open_files.h"

namespace holdfast::restore {
namespace {

using collection::FrameBlocks;
using collection::FrameEntry;
using collection::kBlockBytes;
using collection::kFrameBytes;

/// Frames with more runs of blocks than this are put together in memory: single writes of a few
/// blocks each cost more.
constexpr std::size_t kFewRuns = 16;

/// What all workers share.
class Filler {
 public:
  explicit Filler(const FillRequest& request)
      : request_(request),
        target_(request.chain.back()),
        throttle_(request.max_rate),
        claims_(request.layout) {
    for (const FileTarget& file : request.layout.files) {
      if (file.kind == collection::proto::FILE_KIND_CONTROL) control_.resize(file.size);
      file_ids_.push_back(file.id);
    }
    std::ranges::sort(file_ids_);
    for (const auto& layer : request.chain) {
      const auto& uuid = layer.backup_uuid();
      if (uuid.size() != sizeof(collection::BackupUuid)) {
        throw Error(sqlstate::kDataCorrupted, "backup manifest has no valid identifier");
      }
      std::memcpy(uuids_.emplace_back().data(), uuid.data(), uuid.size());
    }
  }

  Bytes run(const Stop& stop) {
    claim_incrementals(stop);
    // What newer layers hold single blocks of comes last, over whole frames of the full backup.
    const std::size_t frames = segments() + groups() + full_packs();
    in_parallel(frames, stop, [&](Worker& worker, std::size_t task, const Stop& worker_stop) {
      restore_frames(worker, task, worker_stop);
    });
    in_parallel(claimed_.size(), stop,
                [&](Worker& worker, std::size_t task, const Stop& worker_stop) {
                  ClaimedPack& pack = claimed_[task];
                  restore_wanted(worker, pack.key, pack.wanted, worker_stop);
                  pack.wanted = {};
                });
    claims_.require_complete(target_.subdirectory());
    return std::move(control_);
  }

 private:
  /// One worker's means.
  struct Worker {
    explicit Worker(const FillRequest& request, io::Throttle& throttle)
        : files(request.files), reader(request.store, throttle) {}
    OpenFiles files;
    FrameReader reader;
    std::unique_ptr<FrameAssembly> assembly;  // once it is needed
  };

  /// A pack of an incremental layer with what is wanted of it.
  struct ClaimedPack {
    std::string key;
    std::vector<WantedFrame> wanted;
  };

  /// A part of a frame in an incremental layer.
  struct Piece {
    WantedFrame wanted;
    std::size_t pack = 0;  // in claimed_
  };

  /// A frame that is put together of pieces, [first, last) of pieces_, and where they are not all
  /// of it, of what the full backup holds.
  struct ScatteredFrame {
    std::size_t file = 0;
    std::uint32_t frame = 0;
    std::size_t first = 0;
    std::size_t last = 0;
  };

  /// One to be put together now.
  struct Assembled {
    const ScatteredFrame* scattered = nullptr;
    const WantedFrame* base = nullptr;  // none: the pieces are all of it
  };

  struct PackRef {
    std::size_t layer = 0;
    const collection::proto::Pack* pack = nullptr;
  };

  template <typename Task>
  void in_parallel(std::size_t tasks, const Stop& stop, const Task& task) {
    std::atomic<std::size_t> next = 0;
    run_workers(std::max<std::size_t>(request_.workers, 1), stop,
                [&](std::size_t, const Stop& worker_stop) {
                  if (next >= tasks) return;
                  Worker worker(request_, throttle_);
                  for (std::size_t i = next++; i < tasks; i = next++) {
                    worker_stop.check();
                    task(worker, i, worker_stop);
                  }
                });
  }

  /// Claims go from the newest layer to the oldest, and nothing of a layer can be fetched before
  /// all newer ones have claimed. The full comes last and is most of it, so only its packs' indexes
  /// are read when their turn comes.
  void claim_incrementals(const Stop& stop) {
    std::vector<PackRef> refs;
    for (std::size_t layer = request_.chain.size(); layer-- > 1;) {
      for (const auto& pack : request_.chain[layer].packs()) {
        if (may_be_wanted(pack)) refs.push_back({layer, &pack});
      }
    }
    std::vector<std::vector<FrameEntry>> indexes(refs.size());
    std::atomic<std::size_t> next = 0;
    run_workers(std::max<std::size_t>(request_.workers, 1), stop,
                [&](std::size_t, const Stop& worker_stop) {
                  for (std::size_t i = next++; i < refs.size(); i = next++) {
                    worker_stop.check();
                    indexes[i] = read_index(refs[i], worker_stop);
                  }
                });
    std::size_t layer = request_.chain.size();
    std::unordered_set<std::uint64_t> in_layer;
    std::vector<Piece> pieces;
    for (std::size_t i = 0; i < refs.size(); ++i) {
      stop.check();
      if (refs[i].layer != layer) in_layer.clear();
      layer = refs[i].layer;
      claimed_.push_back({.key = key_of(refs[i]), .wanted = {}});
      const std::string& key = claimed_.back().key;
      std::vector<WantedFrame> wanted;
      for (const FrameEntry& entry : indexes[i]) {
        if (!in_layer.insert(std::uint64_t{entry.file_id} << 32 | entry.frame).second) {
          throw held_twice(entry, key);
        }
        claim(entry, layer, key, wanted);
      }
      indexes[i] = {};
      for (WantedFrame& one : wanted) pieces.push_back({std::move(one), i});
    }
    part(std::move(pieces));
  }

  /// Tells the frames that are put together from those whose pieces are written by themselves.
  void part(std::vector<Piece> pieces) {
    const auto place = [](const Piece& piece) {
      return std::pair(piece.wanted.claim.file, piece.wanted.entry.frame);
    };
    std::ranges::stable_sort(pieces, {}, place);
    for (std::size_t first = 0, last = 0; first < pieces.size(); first = last) {
      std::size_t runs = 0;
      for (; last < pieces.size() && place(pieces[last]) == place(pieces[first]); ++last) {
        runs += count_runs(pieces[last].wanted.claim.blocks);
      }
      if (runs <= kFewRuns) {
        for (std::size_t i = first; i < last; ++i) {
          claimed_[pieces[i].pack].wanted.push_back(std::move(pieces[i].wanted));
        }
        continue;
      }
      const auto [file, frame] = place(pieces[first]);
      if (claims_.complete(file, frame)) whole_of_pieces_.push_back(scattered_.size());
      scattered_.push_back({file, frame, pieces_.size(), pieces_.size() + (last - first)});
      std::move(pieces.begin() + static_cast<std::ptrdiff_t>(first),
                pieces.begin() + static_cast<std::ptrdiff_t>(last), std::back_inserter(pieces_));
    }
  }

  /// False for a pack whose index need not be read, because all its files are left out.
  bool may_be_wanted(const collection::proto::Pack& pack) const {
    if (!request_.layout.partial) return true;
    const auto first = std::ranges::lower_bound(file_ids_, pack.first_file());
    return first != file_ids_.end() && *first <= pack.last_file();
  }

  std::string key_of(const PackRef& ref) const {
    return collection::pack_key(request_.chain[ref.layer].subdirectory(), ref.pack->number());
  }

  /// The entries that count.
  std::vector<FrameEntry> read_index(const PackRef& ref, const Stop& stop) const {
    auto entries = collection::read_pack_index(
        request_.store, key_of(ref), collection::summary_of(*ref.pack), uuids_[ref.layer], stop);
    const std::unordered_set<std::uint32_t> superseded(ref.pack->superseded().begin(),
                                                       ref.pack->superseded().end());
    std::uint32_t position = 0;
    std::erase_if(entries, [&](const FrameEntry&) { return superseded.contains(position++); });
    return entries;
  }

  void claim(const FrameEntry& entry, std::size_t layer, const std::string& key,
             std::vector<WantedFrame>& wanted) {
    if (!claims_.wants(entry.file_id)) return;
    const bool target = layer + 1 == request_.chain.size();
    const auto claim =
        claims_.claim(entry, target ? BlockClaims::Layer::Target : BlockClaims::Layer::Older, key);
    if (entry.stored_bytes > kMaxRunBytes) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("object \"{}\" holds an impossible frame {} of file {}", key,
                              entry.frame, entry.file_id));
    }
    if (target && claim.blocks.none()) throw held_twice(entry, key);
    if (claim.blocks.any())
      wanted.push_back({.entry = entry, .claim = claim, .of_full = layer == 0});
  }

  static Error held_twice(const FrameEntry& entry, const std::string& key) {
    return Error(sqlstate::kDataCorrupted,
                 fmt::format("object \"{}\" holds frame {} of file {}, which another one holds too",
                             key, entry.frame, entry.file_id));
  }

  std::size_t segments() const {
    return request_.layout.partial ? 0 : static_cast<std::size_t>(target_.wal_size());
  }
  std::size_t full_packs() const {
    return static_cast<std::size_t>(request_.chain.front().packs_size());
  }
  std::size_t groups() const {
    return (whole_of_pieces_.size() + FrameAssembly::kSlots - 1) / FrameAssembly::kSlots;
  }

  void restore_frames(Worker& worker, std::size_t task, const Stop& stop) {
    if (task < segments()) {
      restore_wal(target_.wal(static_cast<int>(task)), stop);
      return;
    }
    task -= segments();
    if (task < groups()) {
      const std::size_t first = task * FrameAssembly::kSlots;
      std::vector<Assembled> frames;
      for (std::size_t i = first;
           i < std::min(first + FrameAssembly::kSlots, whole_of_pieces_.size()); ++i) {
        frames.push_back({.scattered = &scattered_[whole_of_pieces_[i]]});
      }
      assemble(worker, {}, frames, stop);
      return;
    }
    task -= groups();
    const auto& pack = request_.chain.front().packs(static_cast<int>(task));
    if (may_be_wanted(pack)) restore_pack(worker, {.layer = 0, .pack = &pack}, stop);
  }

  /// Of the full backup.
  void restore_pack(Worker& worker, const PackRef& ref, const Stop& stop) {
    const std::string key = key_of(ref);
    std::vector<WantedFrame> wanted;
    for (const FrameEntry& entry : read_index(ref, stop)) claim(entry, ref.layer, key, wanted);
    const auto behind = std::stable_partition(
        wanted.begin(), wanted.end(),
        [&](const WantedFrame& one) { return find_scattered(one) == nullptr; });
    const std::vector<WantedFrame> bases(std::make_move_iterator(behind),
                                         std::make_move_iterator(wanted.end()));
    wanted.erase(behind, wanted.end());
    restore_wanted(worker, key, wanted, stop);
    std::vector<Assembled> frames;
    for (std::size_t i = 0; i < bases.size(); ++i) {
      frames.push_back({.scattered = find_scattered(bases[i]), .base = &bases[i]});
      if (frames.size() < FrameAssembly::kSlots && i + 1 < bases.size()) continue;
      assemble(worker, key, frames, stop);
      frames.clear();
    }
  }

  const ScatteredFrame* find_scattered(const WantedFrame& base) const {
    const auto wanted = std::pair(base.claim.file, base.entry.frame);
    const auto place = [](const ScatteredFrame& one) { return std::pair(one.file, one.frame); };
    const auto found = std::ranges::lower_bound(scattered_, wanted, {}, place);
    return found != scattered_.end() && place(*found) == wanted ? &*found : nullptr;
  }

  void restore_wanted(Worker& worker, const std::string& key, std::vector<WantedFrame>& wanted,
                      const Stop& stop) {
    request_.before_pack();
    std::erase_if(wanted, [&](const WantedFrame& one) {
      stop.check();
      if (!in_place(worker, one)) return false;
      request_.progress(bytes_of(one));
      return true;
    });
    worker.reader.read(
        key, wanted,
        [&](const WantedFrame& one, MutableByteView plain) { write(worker, one, plain); }, stop);
  }

  /// Puts frames together and writes each at once. `full_pack` is where their bases are.
  void assemble(Worker& worker, const std::string& full_pack, const std::vector<Assembled>& frames,
                const Stop& stop) {
    request_.before_pack();
    if (!worker.assembly) worker.assembly = std::make_unique<FrameAssembly>();
    FrameAssembly& assembly = *worker.assembly;
    assembly.clear();
    std::vector<WantedFrame> bases;
    std::map<std::size_t, std::vector<WantedFrame>> by_pack;
    const auto add = [&](std::vector<WantedFrame>& to, WantedFrame one, std::size_t slot) {
      stop.check();
      if (request_.may_hold_content[one.claim.file] && in_place(worker, one)) {
        request_.progress(bytes_of(one));
        return;
      }
      one.slot = slot;
      to.push_back(std::move(one));
    };
    for (std::size_t slot = 0; slot < frames.size(); ++slot) {
      if (frames[slot].base != nullptr) add(bases, *frames[slot].base, slot);
      for (std::size_t i = frames[slot].scattered->first; i < frames[slot].scattered->last; ++i) {
        add(by_pack[pieces_[i].pack], pieces_[i].wanted, slot);
      }
    }
    const auto put = [&](const WantedFrame& one, MutableByteView plain) {
      assembly.put(one.slot, one.entry.blocks(), one.claim.blocks, plain);
    };
    worker.reader.read(full_pack, bases, put, stop);
    for (auto& [pack, wanted] : by_pack) worker.reader.read(claimed_[pack].key, wanted, put, stop);
    for (std::size_t slot = 0; slot < frames.size(); ++slot) {
      const ScatteredFrame& frame = *frames[slot].scattered;
      const FrameBlocks& filled = assembly.filled(slot);
      write_runs(worker, frame.file, frame.frame, collection::leading_blocks(kFrameBytes), filled,
                 assembly.frame(slot));
      request_.progress(restore::bytes_of(filled, claims_.bytes_in_frame(frame.file, frame.frame)));
    }
  }

  std::uint64_t bytes_of(const WantedFrame& one) const {
    return restore::bytes_of(one.claim.blocks,
                             claims_.bytes_in_frame(one.claim.file, one.entry.frame));
  }

  OpenFiles::Place place_of(std::size_t file, std::uint32_t frame,
                            std::uint64_t offset_in_frame) const {
    const FileTarget& target = request_.layout.files[file];
    return {.path = target.path,
            .file_size = target.size,
            .offset = std::uint64_t{frame} * kFrameBytes + offset_in_frame};
  }

  bool is_control(const WantedFrame& one) const {
    return request_.layout.files[one.claim.file].kind == collection::proto::FILE_KIND_CONTROL;
  }

  bool in_place(Worker& worker, const WantedFrame& one) {
    if (is_control(one)) return false;
    // A file that we have just made reads as zeros.
    if (!request_.may_hold_content[one.claim.file]) {
      if (one.entry.codec != collection::Codec::Zero) return false;
      // Unless a frame of the full backup was written there, whole.
      return one.of_full ||
             bytes_of(one) == claims_.bytes_in_frame(one.claim.file, one.entry.frame);
    }
    // The checksum is of all blocks that the frame holds.
    const std::uint64_t bytes = claims_.bytes_in_frame(one.claim.file, one.entry.frame);
    if (one.claim.blocks != one.entry.blocks()) return false;
    const MutableByteView plain = worker.reader.buffer();
    if (!worker.files.read(place_of(one.claim.file, one.entry.frame, 0), bytes, plain)) {
      return false;
    }
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

  void write(Worker& worker, const WantedFrame& one, MutableByteView plain) {
    const FrameBlocks held = one.entry.blocks();
    const std::size_t file = one.claim.file;
    if (is_control(one)) {
      std::ranges::copy(
          plain, control_.begin() +
                     static_cast<std::ptrdiff_t>(std::uint64_t{one.entry.frame} * kFrameBytes));
    } else if (one.of_full && one.claim.blocks.count() * 2 >= held.count()) {
      // Newer layers' blocks come later, over it.
      worker.files.write(place_of(file, one.entry.frame, 0),
                         plain.first(std::min<std::uint64_t>(
                             plain.size(), claims_.bytes_in_frame(file, one.entry.frame))));
    } else {
      write_runs(worker, file, one.entry.frame, held, one.claim.blocks, plain);
    }
    request_.progress(bytes_of(one));
  }

  /// Writes `blocks`; `plain` is those that are `held`, one after the other.
  void write_runs(Worker& worker, std::size_t file, std::uint32_t frame, const FrameBlocks& held,
                  const FrameBlocks& blocks, MutableByteView plain) {
    const std::uint64_t end = claims_.bytes_in_frame(file, frame);
    for_each_run(held, blocks, [&](std::size_t first, std::size_t count, std::size_t at) {
      const std::uint64_t begin = std::uint64_t{first} * kBlockBytes;
      const std::uint64_t bytes = std::min<std::uint64_t>(begin + count * kBlockBytes, end) - begin;
      worker.files.write(place_of(file, frame, begin), plain.subspan(at * kBlockBytes, bytes));
    });
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
  std::vector<collection::BackupUuid> uuids_;  // of the layers
  BlockClaims claims_;
  std::vector<std::uint32_t> file_ids_;  // of the layout, ascending
  std::vector<ClaimedPack> claimed_;
  std::vector<Piece> pieces_;                 // of scattered frames
  std::vector<ScatteredFrame> scattered_;     // by file and frame
  std::vector<std::size_t> whole_of_pieces_;  // those that need nothing of the full backup
  Bytes control_;  // its frames are written by one worker each, into places of their own
};

}  // namespace

Bytes fill_files(const FillRequest& request, const Stop& stop) { return Filler(request).run(stop); }

}  // namespace holdfast::restore
