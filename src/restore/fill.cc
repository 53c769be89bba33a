#include "restore/fill.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/pack.h"
#include "collection/wal_archive.h"
#include "io/file.h"
#include "io/throttle.h"
#include "postgres/lsn.h"
#include "restore/open_files.h"

namespace holdfast::restore {
namespace {

using collection::FrameEntry;
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

std::uint64_t frames_of(std::uint64_t size) { return (size + kFrameBytes - 1) / kFrameBytes; }

/// What all workers share.
class Filler {
 public:
  explicit Filler(const FillRequest& request) : request_(request), throttle_(request.max_rate) {
    const auto& files = request.layout.files;
    first_frame_.reserve(files.size());
    std::uint64_t frames = 0;
    for (std::size_t i = 0; i < files.size(); ++i) {
      by_id_[files[i].id] = i;
      first_frame_.push_back(frames);
      frames += frames_of(files[i].size);
      if (files[i].kind == collection::proto::FILE_KIND_CONTROL) control_.resize(files[i].size);
    }
    seen_ = std::vector<std::atomic<bool>>(frames);
    const auto& uuid = request.manifest.backup_uuid();
    if (uuid.size() != uuid_.size()) {
      throw Error(sqlstate::kDataCorrupted, "backup manifest has no valid identifier");
    }
    std::memcpy(uuid_.data(), uuid.data(), uuid_.size());
  }

  Bytes run(const Stop& stop) {
    run_workers(std::max<std::size_t>(request_.workers, 1), stop,
                [&](std::size_t, const Stop& worker_stop) { work(worker_stop); });
    require_complete();
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
    std::size_t file;
  };

  void work(const Stop& stop) {
    Worker worker(request_.files);
    const int segments = request_.manifest.wal_size();
    const int tasks = segments + request_.manifest.packs_size();
    for (int task = next_++; task < tasks; task = next_++) {
      stop.check();
      if (task < segments) {
        restore_wal(request_.manifest.wal(task), stop);
      } else {
        restore_pack(worker, request_.manifest.packs(task - segments), stop);
      }
    }
  }

  void restore_pack(Worker& worker, const collection::proto::Pack& pack, const Stop& stop) {
    request_.before_pack();
    const auto key = collection::pack_key(request_.manifest.subdirectory(), pack.number());
    auto entries =
        collection::read_pack_index(request_.store, key, collection::summary_of(pack), uuid_, stop);
    const std::unordered_set<std::uint32_t> superseded(pack.superseded().begin(),
                                                       pack.superseded().end());
    std::vector<Wanted> wanted;
    for (std::uint32_t i = 0; i < entries.size(); ++i) {
      if (superseded.contains(i)) continue;
      stop.check();
      const std::size_t file = claim(entries[i], key);
      if (in_place(worker, entries[i], file)) {
        request_.progress(entries[i].plain_bytes);
      } else {
        wanted.push_back({entries[i], file});
      }
    }
    std::ranges::stable_sort(wanted, {}, [](const Wanted& one) { return one.entry.offset; });
    fetch(worker, key, wanted, stop);
  }

  /// Checks that the frame fits its file and occurs once; gives the file.
  std::size_t claim(const FrameEntry& entry, const std::string& key) {
    const auto found = by_id_.find(entry.file_id);
    if (found == by_id_.end()) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("object \"{}\" holds a frame of a file {} that the manifest lacks",
                              key, entry.file_id));
    }
    const FileTarget& file = request_.layout.files[found->second];
    const std::uint64_t start = std::uint64_t{entry.frame} * kFrameBytes;
    if (entry.frame >= frames_of(file.size) ||
        entry.plain_bytes != std::min<std::uint64_t>(kFrameBytes, file.size - start) ||
        entry.stored_bytes > kMaxRunBytes) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("object \"{}\" holds an impossible frame {} of file \"{}\"", key,
                              entry.frame, file.path));
    }
    if (seen_[first_frame_[found->second] + entry.frame].exchange(true)) {
      throw Error(
          sqlstate::kDataCorrupted,
          fmt::format("object \"{}\" holds frame {} of file \"{}\", which another one holds "
                      "too",
                      key, entry.frame, file.path));
    }
    return found->second;
  }

  OpenFiles::Place place_of(const FrameEntry& entry, std::size_t file) const {
    const FileTarget& target = request_.layout.files[file];
    return {.path = target.path,
            .file_size = target.size,
            .offset = std::uint64_t{entry.frame} * kFrameBytes};
  }

  bool is_control(std::size_t file) const {
    return request_.layout.files[file].kind == collection::proto::FILE_KIND_CONTROL;
  }

  bool in_place(Worker& worker, const FrameEntry& entry, std::size_t file) {
    if (is_control(file)) return false;
    // A file that we have just made reads as zeros.
    if (!request_.may_hold_content[file]) return entry.codec == collection::Codec::Zero;
    const MutableByteView plain = worker.plain.view();
    return worker.files.read(place_of(entry, file), entry.plain_bytes, plain) &&
           collection::hash128(plain.first(entry.plain_bytes)) == entry.hash;
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
    const OpenFiles::Place place = place_of(one.entry, one.file);
    if (is_control(one.file)) {
      std::ranges::copy(plain, control_.begin() + static_cast<std::ptrdiff_t>(place.offset));
    } else {
      worker.files.write(place, plain);
    }
    request_.progress(one.entry.plain_bytes);
  }

  void restore_wal(const collection::proto::WalSegment& wal, const Stop& stop) {
    const auto& instance = request_.manifest.instance();
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
    std::uint64_t written = 0;
    const bool found = collection::get_wal_segment(
        request_.store,
        {.system_identifier = instance.system_identifier(),
         .timeline = wal.timeline(),
         .segment = wal.segment(),
         .segment_bytes = bytes},
        [&](std::uint64_t offset, ByteView content) {
          throttle_.take(content.size(), stop);
          io::pwrite_all(request_.files, fd.get(), content, offset, path);
          written += content.size();
        },
        stop);
    if (!found) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("WAL segment {} of timeline {} is missing in the collection", name,
                              wal.timeline()));
    }
    if (written != bytes) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("WAL segment {} in the collection has {} bytes instead of {}", name,
                              written, bytes));
    }
    request_.progress(bytes);
  }

  void require_complete() const {
    const auto& files = request_.layout.files;
    for (std::size_t i = 0; i < files.size(); ++i) {
      for (std::uint64_t frame = 0; frame < frames_of(files[i].size); ++frame) {
        if (seen_[first_frame_[i] + frame]) continue;
        throw Error(sqlstate::kDataCorrupted,
                    fmt::format("no pack of backup \"{}\" holds frame {} of file \"{}\"",
                                request_.manifest.subdirectory(), frame, files[i].path));
      }
    }
  }

  const FillRequest& request_;
  io::Throttle throttle_;
  collection::BackupUuid uuid_{};
  std::unordered_map<std::uint32_t, std::size_t> by_id_;
  std::vector<std::uint64_t> first_frame_;  // of each file, in seen_
  std::vector<std::atomic<bool>> seen_;
  std::atomic<int> next_ = 0;
  Bytes control_;  // its frames are written by one worker each, into places of their own
};

}  // namespace

Bytes fill_files(const FillRequest& request, const Stop& stop) { return Filler(request).run(stop); }

}  // namespace holdfast::restore
