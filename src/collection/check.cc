#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <set>

#include "base/error.h"
#include "base/mutex.h"
#include "base/worker_pool.h"
#include "collection/collection.h"
#include "collection/coverage_internal.h"
#include "collection/format.h"
#include "collection/pack_internal.h"
#include "collection/wal_archive.h"
#include "postgres/relation_path.h"

namespace holdfast::collection {

namespace {

using storage::ObjectKey;
using storage::ObjectStore;

constexpr std::string_view kMissing = "is missing";

/// What is wrong, from several threads.
class Problems {
 public:
  void add(const ObjectKey& key, std::string problem) {
    const MutexLock lock(mutex_);
    problems_.push_back({.key = key, .problem = std::move(problem)});
  }
  /// For an object whose reading threw. Failures of the storage itself are no finding about the
  /// backup, so they go on up.
  void add(const ObjectKey& key, const Error& error) {
    const bool about_object = error.state() == sqlstate::kDataCorrupted ||
                              error.state() == sqlstate::kUndefinedFile ||
                              error.state() == sqlstate::kFeatureNotSupported;
    if (!about_object) throw error;
    add(key, error.detail().empty() ? error.message()
                                    : fmt::format("{}: {}", error.message(), error.detail()));
  }
  bool empty() const {
    const MutexLock lock(mutex_);
    return problems_.empty();
  }
  std::vector<FileProblem> take() {
    const MutexLock lock(mutex_);
    std::sort(
        problems_.begin(), problems_.end(),
        [](const FileProblem& left, const FileProblem& right) { return left.key < right.key; });
    return std::move(problems_);
  }

 private:
  mutable Mutex mutex_;
  std::vector<FileProblem> problems_ HF_GUARDED_BY(mutex_);
};

enum class Depth { Index, Data };

BackupUuid uuid_of(const proto::Manifest& manifest) {
  BackupUuid uuid{};
  const ByteView bytes = as_bytes(manifest.backup_uuid());
  std::copy_n(bytes.begin(), std::min(bytes.size(), uuid.size()), uuid.begin());
  return uuid;
}

/// One per thread: its buffers are used again for each pack.
class PackChecker {
 public:
  PackChecker(ObjectStore& store, const proto::Manifest& manifest, Depth depth, Coverage& coverage,
              Problems& problems)
      : store_(store),
        directory_(manifest.subdirectory()),
        manifest_(manifest),
        uuid_(uuid_of(manifest)),
        depth_(depth),
        coverage_(coverage),
        problems_(problems) {}

  void check(const proto::Pack& pack, const Stop& stop) {
    const ObjectKey key = pack_key(directory_, pack.number());
    try {
      const auto info = store_.stat(key, stop);
      if (!info) {
        problems_.add(key, std::string(kMissing));
      } else if (info->size != pack.size()) {
        problems_.add(key, fmt::format("has {} bytes instead of {}", info->size, pack.size()));
      } else {
        const auto entries = read_pack_index(store_, key, summary_of(pack), uuid_, stop);
        const std::string problem = coverage_.add(pack, entries);
        if (!problem.empty()) problems_.add(key, problem);
        if (depth_ == Depth::Data) check_frames(key, pack, entries, stop);
      }
    } catch (const Error& error) {
      problems_.add(key, error);
    }
  }

 private:
  void check_frames(const ObjectKey& key, const proto::Pack& pack,
                    const std::vector<FrameEntry>& entries, const Stop& stop) {
    stored_.resize(pack.index_offset());
    if (!store_.get_into(key, 0, stored_, stop)) {
      problems_.add(key, std::string(kMissing));
      return;
    }
    check_pack_header(stored_, pack.number(), uuid_, key);
    plain_.resize(kFrameBytes);
    const std::vector<bool> superseded = superseded_frames(pack, entries.size());
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (superseded[i]) continue;
      stop.check();
      const FrameEntry& entry = entries[i];
      try {
        decoder_.decode(entry, ByteView(stored_).subspan(entry.offset, entry.stored_bytes),
                        MutableByteView(plain_).first(entry.plain_bytes), key);
      } catch (Error& error) {
        error.detail(fmt::format("{} {}", error.detail(), content_of(entry)));
        problems_.add(key, error);
      }
    }
  }

  /// What is lost with a frame, in words.
  std::string content_of(const FrameEntry& entry) const {
    const auto file =
        std::ranges::lower_bound(manifest_.files(), entry.file_id, {}, &proto::File::id);
    if (file == manifest_.files().end() || file->id() != entry.file_id) return {};
    const auto relation = postgres::parse_relation_path(file->path());
    if (!relation || file->kind() != proto::FILE_KIND_RELATION) {
      return fmt::format("It is part of file \"{}\".", file->path());
    }
    const std::uint64_t first =
        std::uint64_t{relation->segment} * manifest_.instance().relation_segment_blocks() +
        std::uint64_t{entry.frame} * kFrameBlocks;
    return fmt::format("It holds blocks {} to {} of relation file \"{}\".", first,
                       first + kFrameBlocks - 1, file->path());
  }

  ObjectStore& store_;
  const std::string directory_;
  const proto::Manifest& manifest_;
  const BackupUuid uuid_;
  const Depth depth_;
  Coverage& coverage_;
  Problems& problems_;
  FrameDecoder decoder_;
  Bytes stored_;
  Bytes plain_;
};

void check_wal(ObjectStore& store, const proto::Manifest& manifest,
               const proto::WalSegment& segment, Depth depth, Problems& problems,
               const Stop& stop) {
  const WalSegmentId id = wal_segment_of(manifest, segment);
  if (id.segment_bytes == 0) {
    problems.add(manifest_key(manifest.subdirectory()), "names WAL without a segment size");
    return;
  }
  const ObjectKey key = wal_segment_key(id);
  try {
    const auto stored = stat_wal_segment(store, id, stop);
    if (!stored) {
      problems.add(key, std::string(kMissing));
    } else if (segment.stored_bytes() != 0 && *stored != segment.stored_bytes()) {
      problems.add(key, fmt::format("has {} bytes instead of {}", *stored, segment.stored_bytes()));
    } else if (depth == Depth::Data) {
      get_wal_segment(
          store, id, [](std::uint64_t, ByteView) {}, stop);
    } else if (id.segment_bytes <= kWalPartBytes) {
      open_pack(store, key, stop);
    }
  } catch (const Error& error) {
    problems.add(key, error);
  }
}

/// Recovery needs all WAL from the start to the stop of a backup; to a moment before that, from the
/// start of the layer before.
void check_wal_range(const proto::Manifest& manifest, Problems& problems) {
  const std::uint64_t bytes = manifest.instance().wal_segment_bytes();
  if (bytes == 0 || manifest.stop().position() == 0) return;
  std::set<std::uint64_t> there;
  for (const proto::WalSegment& segment : manifest.wal()) there.insert(segment.segment());
  for (const proto::WalSegment& segment : manifest.history().wal()) {
    there.insert(segment.segment());
  }
  const auto start = manifest.has_history() ? manifest.base().start() : manifest.start();
  const std::uint64_t last = (manifest.stop().position() - 1) / bytes;
  std::uint64_t needed = start.position() / bytes;
  while (needed <= last && there.contains(needed)) ++needed;
  if (needed > last) return;
  problems.add(manifest_key(manifest.subdirectory()),
               fmt::format("lists no WAL segment {} between its start and its stop", needed));
}

void check_layer(ObjectStore& store, const proto::Manifest& manifest, Depth depth,
                 std::size_t workers, Coverage& coverage, Problems& problems, const Stop& stop) {
  coverage.begin(manifest);
  const auto packs = static_cast<std::size_t>(manifest.packs_size());
  std::vector<const proto::WalSegment*> wal;
  for (const proto::WalSegment& segment : manifest.history().wal()) wal.push_back(&segment);
  for (const proto::WalSegment& segment : manifest.wal()) wal.push_back(&segment);
  const std::size_t all = packs + wal.size();
  std::atomic<std::size_t> next = 0;
  run_workers(std::max<std::size_t>(std::min(workers, all), 1), stop,
              [&](std::size_t, const Stop& worker_stop) {
                PackChecker checker(store, manifest, depth, coverage, problems);
                for (std::size_t i = next++; i < all; i = next++) {
                  worker_stop.check();
                  if (i < packs) {
                    checker.check(manifest.packs(static_cast<int>(i)), worker_stop);
                  } else {
                    check_wal(store, manifest, *wal[i - packs], depth, problems, worker_stop);
                  }
                }
              });
  check_wal_range(manifest, problems);
  // What a pack that is lost or damaged held is missing anyway.
  const std::string missing = coverage.find_missing();
  if (problems.empty() && !missing.empty()) {
    problems.add(manifest_key(manifest.subdirectory()), missing);
  }
}

std::vector<FileProblem> check_all(ObjectStore& store, std::span<const proto::Manifest> chain,
                                   Depth depth, std::size_t workers, const Stop& stop) {
  Problems problems;
  Coverage coverage;
  for (const proto::Manifest& manifest : chain) {
    check_layer(store, manifest, depth, workers, coverage, problems, stop);
  }
  return problems.take();
}

}  // namespace

std::vector<FileProblem> check_files(ObjectStore& store, std::span<const proto::Manifest> chain,
                                     const Stop& stop) {
  // Waits for the storage more than for the processor.
  constexpr std::size_t kWorkers = 4;
  return check_all(store, chain, Depth::Index, kWorkers, stop);
}

std::vector<FileProblem> verify_data(ObjectStore& store, std::span<const proto::Manifest> chain,
                                     std::size_t workers, const Stop& stop) {
  return check_all(store, chain, Depth::Data, workers, stop);
}

}  // namespace holdfast::collection
