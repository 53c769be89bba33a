#include "restore/fill.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
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
#include "restore/open_files.h"

namespace holdfast::restore {
namespace {

using collection::FrameEntry;
using collection::kBlockBytes;
using collection::kFrameBytes;

/// Frames this close to each other are fetched by one request.
constexpr std::uint64_t kMaxGapBytes = 64U << 10;
/// The most that one request fetches; each worker has a buffer of this size.
constexpr std::uint64_t kMaxRunBytes = 4U << 20;

/// Memory at a multiple of kDirectAlignment.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(std::size_t bytes)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, bytes))),
        bytes_(bytes) {
    if (!memory_) throw std::bad_alloc();
  }
  MutableByteView view() { return {memory_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t bytes_;
};

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
    run_workers(std::max<std::size_t>(request_.workers, 1), stop,
                [&](std::size_t, const Stop& worker_stop) { work(worker_stop); });
    claims_.require_complete(target_.subdirectory());
    return std::move(control_);
  }

 private:
  /// One worker's means.
  struct Worker {
    explicit Worker(io::FileSystem& system) : files(system) {}
    OpenFiles files;
    collection::FrameDecoder decoder;
    Bytes run = Bytes(kMaxRunBytes);
    AlignedBuffer plain{kFrameBytes};
  };

  struct Wanted {
    FrameEntry entry;
    BlockClaims::Claim claim;
  };

  /// A pack of an incremental layer with what is wanted of it.
  struct ClaimedPack {
    std::string key;
    std::vector<Wanted> wanted;
  };

  struct PackRef {
    std::size_t layer = 0;
    const collection::proto::Pack* pack = nullptr;
  };

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
    for (std::size_t i = 0; i < refs.size(); ++i) {
      stop.check();
      if (refs[i].layer != layer) in_layer.clear();
      layer = refs[i].layer;
      ClaimedPack pack{.key = key_of(refs[i]), .wanted = {}};
      for (const FrameEntry& entry : indexes[i]) {
        if (!in_layer.insert(std::uint64_t{entry.file_id} << 32 | entry.frame).second) {
          throw held_twice(entry, pack.key);
        }
        claim(entry, layer, pack.key, pack.wanted);
      }
      indexes[i] = {};
      if (!pack.wanted.empty()) claimed_.push_back(std::move(pack));
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
             std::vector<Wanted>& wanted) {
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
    if (claim.blocks.any()) wanted.push_back({entry, claim});
  }

  static Error held_twice(const FrameEntry& entry, const std::string& key) {
    return Error(sqlstate::kDataCorrupted,
                 fmt::format("object \"{}\" holds frame {} of file {}, which another one holds too",
                             key, entry.frame, entry.file_id));
  }

  void work(const Stop& stop) {
    Worker worker(request_.files);
    const auto segments =
        request_.layout.partial ? 0 : static_cast<std::size_t>(target_.wal_size());
    const auto& full = request_.chain.front();
    const std::size_t tasks =
        segments + claimed_.size() + static_cast<std::size_t>(full.packs_size());
    for (std::size_t task = next_++; task < tasks; task = next_++) {
      stop.check();
      if (task < segments) {
        restore_wal(target_.wal(static_cast<int>(task)), stop);
      } else if (task < segments + claimed_.size()) {
        ClaimedPack& pack = claimed_[task - segments];
        restore_wanted(worker, pack.key, pack.wanted, stop);
        pack = {};
      } else {
        const auto& pack = full.packs(static_cast<int>(task - segments - claimed_.size()));
        if (may_be_wanted(pack)) restore_pack(worker, {.layer = 0, .pack = &pack}, stop);
      }
    }
  }

  void restore_pack(Worker& worker, const PackRef& ref, const Stop& stop) {
    const std::string key = key_of(ref);
    std::vector<Wanted> wanted;
    for (const FrameEntry& entry : read_index(ref, stop)) claim(entry, ref.layer, key, wanted);
    restore_wanted(worker, key, wanted, stop);
  }

  void restore_wanted(Worker& worker, const std::string& key, std::vector<Wanted>& wanted,
                      const Stop& stop) {
    request_.before_pack();
    std::erase_if(wanted, [&](const Wanted& one) {
      stop.check();
      if (!in_place(worker, one)) return false;
      request_.progress(bytes_of(one));
      return true;
    });
    std::ranges::stable_sort(wanted, {}, [](const Wanted& one) { return one.entry.offset; });
    fetch(worker, key, wanted, stop);
  }

  std::uint64_t bytes_of(const Wanted& one) const {
    return restore::bytes_of(one.claim.blocks,
                             claims_.bytes_in_frame(one.claim.file, one.entry.frame));
  }

  OpenFiles::Place place_of(const Wanted& one, std::uint64_t offset_in_frame) const {
    const FileTarget& target = request_.layout.files[one.claim.file];
    return {.path = target.path,
            .file_size = target.size,
            .offset = std::uint64_t{one.entry.frame} * kFrameBytes + offset_in_frame};
  }

  bool is_control(const Wanted& one) const {
    return request_.layout.files[one.claim.file].kind == collection::proto::FILE_KIND_CONTROL;
  }

  bool in_place(Worker& worker, const Wanted& one) {
    if (is_control(one)) return false;
    // A file that we have just made reads as zeros.
    if (!request_.may_hold_content[one.claim.file]) {
      return one.entry.codec == collection::Codec::Zero;
    }
    // The checksum is of all blocks that the frame holds.
    const std::uint64_t bytes = claims_.bytes_in_frame(one.claim.file, one.entry.frame);
    if (one.claim.blocks != one.entry.blocks()) return false;
    const MutableByteView plain = worker.plain.view();
    if (!worker.files.read(place_of(one, 0), bytes, plain)) return false;
    std::size_t held = bytes;
    if (one.entry.partial) held = gather(one.entry.partial_blocks, plain);
    return held == one.entry.plain_bytes &&
           collection::hash128(plain.first(held)) == one.entry.hash;
  }

  /// Moves the blocks of a frame together; gives how many bytes they are.
  static std::size_t gather(const collection::FrameBlocks& blocks, MutableByteView frame) {
    std::size_t at = 0;
    for (std::size_t block = 0; block < blocks.size(); ++block) {
      if (!blocks.test(block)) continue;
      std::memmove(frame.data() + at, frame.data() + block * kBlockBytes, kBlockBytes);
      at += kBlockBytes;
    }
    return at;
  }

  void fetch(Worker& worker, const std::string& key, const std::vector<Wanted>& wanted,
             const Stop& stop) {
    for (std::size_t first = 0; first < wanted.size();) {
      const std::uint64_t start = wanted[first].entry.offset;
      std::uint64_t end = start + wanted[first].entry.stored_bytes;
      std::size_t last = first + 1;
      for (; last < wanted.size(); ++last) {
        const FrameEntry& next = wanted[last].entry;
        if (next.offset > end + kMaxGapBytes) break;
        const std::uint64_t next_end = std::max(end, next.offset + next.stored_bytes);
        if (next_end - start > kMaxRunBytes) break;
        end = next_end;
      }
      const MutableByteView run(worker.run.data(), static_cast<std::size_t>(end - start));
      if (!run.empty() && !request_.store.get_into(key, start, run, stop)) {
        throw Error(sqlstate::kUndefinedFile, fmt::format("object \"{}\" does not exist", key));
      }
      for (; first < last; ++first) {
        const Wanted& one = wanted[first];
        write(worker, key, one,
              run.subspan(one.entry.stored_bytes == 0 ? 0 : one.entry.offset - start,
                          one.entry.stored_bytes),
              stop);
      }
    }
  }

  void write(Worker& worker, const std::string& key, const Wanted& one, ByteView stored,
             const Stop& stop) {
    stop.check();
    throttle_.take(one.entry.plain_bytes, stop);
    const MutableByteView plain = worker.plain.view().first(one.entry.plain_bytes);
    worker.decoder.decode(one.entry, stored, plain, key);
    if (is_control(one)) {
      std::ranges::copy(
          plain, control_.begin() +
                     static_cast<std::ptrdiff_t>(std::uint64_t{one.entry.frame} * kFrameBytes));
    } else if (!one.entry.partial && one.claim.blocks.count() * kBlockBytes >= plain.size()) {
      worker.files.write(place_of(one, 0), plain);
    } else {
      write_blocks(worker, one, plain);
    }
    request_.progress(bytes_of(one));
  }

  /// Neighbouring blocks that are wanted lie next to each other in the frame too.
  void write_blocks(Worker& worker, const Wanted& one, MutableByteView plain) {
    const collection::FrameBlocks& wanted = one.claim.blocks;
    const collection::FrameBlocks held = one.entry.blocks();
    const std::uint64_t end_of_file = claims_.bytes_in_frame(one.claim.file, one.entry.frame);
    std::size_t at = 0;  // of the block in `plain`
    for (std::size_t block = 0; block < wanted.size();) {
      if (!wanted.test(block)) {
        if (held.test(block)) at += kBlockBytes;
        ++block;
        continue;
      }
      const std::size_t first = block;
      while (block < wanted.size() && wanted.test(block)) ++block;
      const std::uint64_t begin = std::uint64_t{first} * kBlockBytes;
      const std::uint64_t bytes =
          std::min<std::uint64_t>(std::uint64_t{block} * kBlockBytes, end_of_file) - begin;
      worker.files.write(place_of(one, begin), plain.subspan(at, bytes));
      at += (block - first) * kBlockBytes;
    }
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
  std::atomic<std::size_t> next_ = 0;
  Bytes control_;  // its frames are written by one worker each, into places of their own
};

}  // namespace

Bytes fill_files(const FillRequest& request, const Stop& stop) { return Filler(request).run(stop); }

}  // namespace holdfast::restore
