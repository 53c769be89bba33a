#include "backup/copy.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "base/bounded_queue.h"
#include "base/error.h"
#include "base/log.h"
#include "base/worker_pool.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "postgres/page.h"

namespace holdfast::backup {

namespace {

using collection::FrameEncoder;
using collection::kFrameBytes;
using collection::PackBuilder;
using collection::PackSummary;

/// Frames that one worker asks the kernel to read before it needs them.
constexpr std::uint32_t kReadAheadFrames = 4;
/// A worker takes small files in runs of up to this many, so that it rarely asks for more.
constexpr std::size_t kMaxRun = 64;

struct FrameRef {
  std::size_t position = 0;
  std::uint32_t frame = 0;
};

/// How many bytes will be read for the frame.
std::uint64_t planned_bytes(const CopyState& state, const FrameRef& ref) {
  const FileEntry& file = state.files[ref.position];
  if (state.selection.how(ref.position) == Selection::How::Blocks) {
    return state.selection.blocks(file.first_frame + ref.frame).count() *
           std::uint64_t{collection::kBlockBytes};
  }
  const std::uint64_t left = file.size - std::uint64_t{ref.frame} * kFrameBytes;
  return std::min<std::uint64_t>(left, kFrameBytes);
}

/// Hands out the frames that are to be copied, in path order, a run at a time: about one full
/// frame's bytes.
class FrameCursor {
 public:
  explicit FrameCursor(const CopyState& state)
      : state_(state), files_(state.files), done_(state.done) {}

  /// Empty at the end.
  void draw(std::vector<FrameRef>& run) {
    run.clear();
    MutexLock lock(mutex_);
    for (std::uint64_t bytes = 0; bytes < kFrameBytes && run.size() < kMaxRun;) {
      if (position_ == files_.size()) return;
      if (frame_ == files_.planned_frames(position_)) {
        ++position_;
        frame_ = 0;
        continue;
      }
      if (!done_[files_[position_].first_frame + frame_]) {
        run.push_back({position_, frame_});
        bytes += planned_bytes(state_, run.back());
      }
      ++frame_;
    }
  }

 private:
  const CopyState& state_;
  const FileTable& files_;
  const std::vector<bool>& done_;
  Mutex mutex_;
  std::size_t position_ HF_GUARDED_BY(mutex_) = 0;
  std::uint32_t frame_ HF_GUARDED_BY(mutex_) = 0;
};

struct FinishedPack {
  std::unique_ptr<PackBuilder> builder;
  PackSummary summary;
};

/// What is taken of one frame.
struct Taken {
  FrameRead read;
  bool partial = false;
  /// The layer before has just this.
  bool unchanged = false;

  bool empty() const { return unchanged || read.bytes.empty(); }
};

/// Whether a page may differ from what it was when the WAL was at `since`. Without checksums VACUUM
/// marks a page all visible without changing its LSN. Restored without the mark, under a visibility
/// map that has it, the page would later lose the map's bit on no change: deleted rows would be
/// found, and VACUUM would pass over what it must freeze. Source: PostgreSQL
/// src/backend/access/heap/visibilitymap.c (visibilitymap_set).
bool may_have_changed(ByteView page, postgres::Lsn since, PageChecksums checksums) {
  const auto header = postgres::parse_page_header(page);
  return header.upper == 0 || header.lsn >= since ||
         (checksums == PageChecksums::Off && (header.flags & postgres::kPageAllVisible) != 0);
}

/// Reads of a frame what the selection says.
Taken take_frame(FrameReader& reader, const CopyState& state, const FrameRef& ref,
                 PageChecksums checksums, const Stop& stop) {
  const Selection& selection = state.selection;
  const std::uint32_t ordinal = state.files[ref.position].first_frame + ref.frame;
  Taken taken;
  switch (selection.how(ref.position)) {
    case Selection::How::Whole:
      taken.read = reader.read(ref.position, ref.frame, stop);
      break;
    case Selection::How::Blocks:
      taken.partial = true;
      taken.read = reader.read_blocks(ref.position, ref.frame, selection.blocks(ordinal), stop);
      break;
    case Selection::How::PageLsn: {
      taken.partial = true;
      taken.read = reader.read(ref.position, ref.frame, stop);
      const std::uint64_t first = std::uint64_t{ref.frame} * collection::kFrameBlocks;
      reader.keep_blocks(taken.read, [&](std::size_t block, ByteView page) {
        // What an LSN on a page with a wrong checksum says is worth nothing.
        const auto number =
            static_cast<std::uint32_t>((first + block) % postgres::kRelationSegmentBlocks);
        const bool suspect = std::ranges::any_of(taken.read.suspects, [&](const auto& key) {
          return key.block % postgres::kRelationSegmentBlocks == number;
        });
        return suspect || first + block >= selection.former_blocks(ref.position) ||
               may_have_changed(page, selection.since(), checksums);
      });
      break;
    }
    case Selection::How::Compare: {
      taken.read = reader.read(ref.position, ref.frame, stop);
      const auto former = selection.former_hash(ordinal);
      taken.unchanged =
          former && taken.read.suspects.empty() && collection::hash128(taken.read.bytes) == *former;
      break;
    }
  }
  return taken;
}

/// Readers fill pack builders, uploaders put them on storage and give them back.
class Copier {
 public:
  Copier(const CopyRequest& request, CopyState& state, CopyObserver& observer)
      : request_(request),
        state_(state),
        observer_(observer),
        cursor_(state),
        finished_(request.workers),
        free_(2 * request.workers),
        reading_(request.workers) {}

  void run(const Stop& stop) {
    for (std::size_t i = 0; i < 2 * request_.workers; ++i) {
      free_.push(std::make_unique<PackBuilder>(), stop);
    }
    run_workers(2 * request_.workers, stop, [&](std::size_t number, const Stop& worker_stop) {
      if (number < request_.workers) {
        read(worker_stop);
      } else {
        upload(worker_stop);
      }
    });
  }

 private:
  void read(const Stop& stop) {
    FrameReader reader(state_.files, request_.data_directory, request_.checksums,
                       request_.outside_root);
    reader.read_ahead(kReadAheadFrames);
    FrameEncoder encoder(request_.compression);
    std::unique_ptr<PackBuilder> pack;
    std::vector<FrameRef> run;
    for (cursor_.draw(run); !run.empty(); cursor_.draw(run)) {
      for (const FrameRef& ref : run) {
        stop.check();
        const std::uint64_t planned = planned_bytes(state_, ref);
        request_.throttle.take(planned, stop);
        if (const Taken taken = take(reader, ref, stop); !taken.empty()) {
          if (pack && pack->full_for(encoder, taken.read.bytes.size())) {
            hand_over(std::exchange(pack, nullptr), stop);
          }
          if (!pack) pack = new_pack(stop);
          add(*pack, encoder, ref, taken);
        }
        observer_.frame_done(planned);
      }
    }
    if (pack) hand_over(std::move(pack), stop);
    state_.bytes_read += reader.bytes_read();
    if (--reading_ == 0) finished_.close();
  }

  Taken take(FrameReader& reader, const FrameRef& ref, const Stop& stop) {
    Taken taken = take_frame(reader, state_, ref, request_.checksums, stop);
    const FrameRead& read = taken.read;
    if (read.state == FrameRead::State::Gone) {
      state_.changes.gone(ref.position);
    } else if (read.state == FrameRead::State::Short) {
      state_.changes.shortened(ref.position, end_of(ref, taken));
    } else if (read.state == FrameRead::State::Grown) {
      state_.changes.grown(ref.position, read.bytes.size());
    }
    state_.changes.suspect(read.suspects);
    if (taken.unchanged) {
      const std::uint32_t ordinal = state_.files[ref.position].first_frame + ref.frame;
      state_.hashes.set(ordinal, *state_.selection.former_hash(ordinal));
    }
    return taken;
  }

  /// Where a file ended that was shorter than planned.
  static std::uint64_t end_of(const FrameRef& ref, const Taken& taken) {
    const std::uint64_t start = std::uint64_t{ref.frame} * kFrameBytes;
    if (!taken.partial) return start + taken.read.bytes.size();
    // Part of a block is held by no partial frame.
    return start + taken.read.end / collection::kBlockBytes * collection::kBlockBytes;
  }

  void add(PackBuilder& pack, FrameEncoder& encoder, const FrameRef& ref, const Taken& taken) {
    const FileEntry& file = state_.files[ref.position];
    if (taken.partial) {
      pack.add_partial(encoder, file.id, ref.frame, taken.read.blocks, taken.read.bytes);
      return;
    }
    const auto& entry = pack.add(encoder, file.id, ref.frame, taken.read.bytes);
    if (!file.by_blocks) state_.hashes.set(file.first_frame + ref.frame, entry.hash);
  }

  std::unique_ptr<PackBuilder> new_pack(const Stop& stop) {
    auto pack = free_.pop(stop);  // never closed
    (*pack)->reset(state_.next_pack++, request_.place.uuid);
    return std::move(*pack);
  }

  void hand_over(std::unique_ptr<PackBuilder> pack, const Stop& stop) {
    const PackSummary summary = pack->finish();
    finished_.push({std::move(pack), summary}, stop);
  }

  void upload(const Stop& stop) {
    while (auto pack = finished_.pop(stop)) {
      store_pack(request_.place, *pack->builder, pack->summary, state_.ledger, stop);
      observer_.pack_stored();
      free_.push(std::move(pack->builder), stop);
    }
  }

  const CopyRequest& request_;
  CopyState& state_;
  CopyObserver& observer_;
  FrameCursor cursor_;
  BoundedQueue<FinishedPack> finished_;
  BoundedQueue<std::unique_ptr<PackBuilder>> free_;
  std::atomic<std::size_t> reading_;
};

/// Whether a frame on storage is what would be taken now. A frame with suspect pages is not: it was
/// torn when the WAL of another attempt was there to tell.
bool still_equal(const collection::FrameEntry& entry, const Taken& taken) {
  return taken.read.state == FrameRead::State::Whole && taken.read.suspects.empty() &&
         !taken.empty() && entry.partial == taken.partial &&
         (!entry.partial || entry.partial_blocks == taken.read.blocks) &&
         taken.read.bytes.size() == entry.plain_bytes &&
         collection::hash128(taken.read.bytes) == entry.hash;
}

/// Absent when the pack is lost or damaged: then its frames are taken again.
std::optional<std::vector<collection::FrameEntry>> try_read_index(
    const LayerPlace& place, const collection::proto::Pack& pack, const Stop& stop) {
  const auto key = collection::pack_key(place.directory, pack.number());
  try {
    return collection::read_pack_index(place.store, key, collection::summary_of(pack), place.uuid,
                                       stop);
  } catch (const Error& error) {
    if (error.state() != sqlstate::kUndefinedFile && error.state() != sqlstate::kDataCorrupted) {
      throw;
    }
    log::warning("copying what \"{}\" held again: {}", key, error.message());
    return std::nullopt;
  }
}

}  // namespace

std::uint64_t bytes_to_copy(const CopyState& state) {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < state.files.size(); ++i) {
    for (std::uint32_t frame = 0; frame < state.files.planned_frames(i); ++frame) {
      if (!state.done[state.files[i].first_frame + frame]) {
        bytes += planned_bytes(state, {i, frame});
      }
    }
  }
  return bytes;
}

void copy_frames(const CopyRequest& request, CopyState& state, CopyObserver& observer,
                 const Stop& stop) {
  Copier(request, state, observer).run(stop);
}

void reuse_packs(const CopyRequest& request, const std::vector<collection::proto::Pack>& packs,
                 CopyState& state, CopyObserver& observer, const Stop& stop) {
  std::atomic<std::size_t> next{0};
  Mutex done_mutex;
  run_workers(request.workers, stop, [&](std::size_t, const Stop& worker_stop) {
    FrameReader reader(state.files, request.data_directory, request.checksums,
                       request.outside_root);
    for (std::size_t i = next++; i < packs.size(); i = next++) {
      const auto& pack = packs[i];
      const auto index = try_read_index(request.place, pack, worker_stop);
      if (!index) continue;
      const auto& entries = *index;
      std::vector<bool> counts(entries.size(), true);
      for (const std::uint32_t position : pack.superseded()) {
        if (position < counts.size()) counts[position] = false;
      }
      std::vector<std::uint32_t> superseded;
      for (std::uint32_t at = 0; at < entries.size(); ++at) {
        if (!counts[at]) continue;
        worker_stop.check();
        const auto position = state.files.find(entries[at].file_id);
        const bool wanted = position && entries[at].frame < state.files.planned_frames(*position) &&
                            state.files.kind(*position) != collection::proto::FILE_KIND_CONTROL;
        if (!wanted ||
            !still_equal(entries[at], take_frame(reader, state, {*position, entries[at].frame},
                                                 request.checksums, worker_stop))) {
          superseded.push_back(at);
          continue;
        }
        const auto& file = state.files[*position];
        if (!file.by_blocks)
          state.hashes.set(file.first_frame + entries[at].frame, entries[at].hash);
        {
          MutexLock lock(done_mutex);
          state.done[file.first_frame + entries[at].frame] = true;
        }
        observer.frame_done(entries[at].plain_bytes);
      }
      state.ledger.adopt(pack, superseded);
    }
    state.bytes_read += reader.bytes_read();
  });
}

void store_pack(const LayerPlace& place, const PackBuilder& pack, const PackSummary& summary,
                PackLedger& ledger, const Stop& stop) {
  const auto key = collection::pack_key(place.directory, summary.number);
  if (place.store.put(key, pack.bytes(), storage::PutMode::OnlyIfAbsent, stop) ==
      storage::PutResult::Taken) {
    // Ours when a put was repeated because its answer was lost: then the index is the one we wrote.
    try {
      collection::read_pack_index(place.store, key, summary, place.uuid, stop);
    } catch (Error& error) {
      error.hint(fmt::format("Another job may be writing to \"{}\".", place.directory));
      throw;
    }
  }
  ledger.add(summary);
}

}  // namespace holdfast::backup
