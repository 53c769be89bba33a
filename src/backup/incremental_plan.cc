#include "backup/incremental_plan.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collection/chain.h"
#include "collection/format.h"
#include "postgres/page.h"
#include "postgres/relation_path.h"

namespace holdfast::backup {

namespace {

using collection::kBlockBytes;
using collection::kFrameBlocks;
using collection::proto::File;
using collection::proto::Manifest;
using How = Selection::How;
using postgres::kRelationSegmentBlocks;

constexpr std::size_t kHashBytes = 16;

class Planner {
 public:
  Planner(const Manifest& base, const KnownChanges& changes, CopyState& state)
      : changes_(changes), state_(state) {
    former_.reserve(static_cast<std::size_t>(base.files_size()));
    for (const File& file : base.files()) former_.emplace(file.path(), &file);
    ids_.first_new = collection::next_file_id(base);
    ids_.kept.assign(state.files.size(), 0);
    how_.assign(state.files.size(), How::Whole);
    state.selection.set_since(changes.since);
  }

  void plan(const Manifest* earlier) {
    for (std::size_t i = 0; i < state_.files.size(); ++i) choose(i);
    state_.files.number(earlier, &ids_);
    state_.done.assign(state_.files.total_frames(), false);
    for (std::size_t i = 0; i < state_.files.size(); ++i) select(i);
    if (changes_.map) select_changed_blocks();
    for (std::size_t i = 0; i < state_.files.size(); ++i) {
      if (how_[i] == How::Blocks) mark_unchanged(i);
    }
  }

 private:
  const File* former(std::size_t position) const {
    const auto found = former_.find(state_.files.path(position));
    return found == former_.end() ? nullptr : found->second;
  }

  void choose(std::size_t position) {
    const File* file = former(position);
    FileEntry& entry = state_.files[position];
    if (file == nullptr || entry.kind == collection::proto::FILE_KIND_CONTROL) return;
    if (entry.by_blocks) {
      how_[position] = choose_for_relation(position);
      // PostgreSQL ignores what follows the last whole page: it is being added, and replay adds it.
      if (how_[position] != How::Whole) entry.size -= entry.size % kBlockBytes;
    } else if (has_hashes(*file)) {
      how_[position] = How::Compare;
    }
    if (how_[position] != How::Whole) ids_.kept[position] = file->id();
  }

  static bool has_hashes(const File& file) {
    const std::uint64_t frames =
        (file.size() + collection::kFrameBytes - 1) / collection::kFrameBytes;
    return file.frame_hashes().size() == frames * kHashBytes;
  }

  How choose_for_relation(std::size_t position) {
    const auto path = postgres::parse_relation_path(state_.files.path(position));
    if (!path) return How::Whole;
    const auto& relation = path->relation;
    if (!changes_.map) {
      return changes_.changed_databases.contains(relation.database) ? How::Whole : How::PageLsn;
    }
    if (changes_.map->whole_database(relation.database, relation.tablespace)) return How::Whole;
    const auto* fork = changes_.map->find(relation, path->fork);
    if (fork == nullptr) return How::Blocks;
    // Truncated before this segment, or created: nothing in it is what it was.
    if (fork->limit <= path->segment * kRelationSegmentBlocks) return How::Whole;
    changed_files_[{relation, path->segment}] = position;
    return How::Blocks;
  }

  void select(std::size_t position) {
    state_.selection.set(position, how_[position]);
    const File* file = former(position);
    const std::uint32_t first_frame = state_.files[position].first_frame;
    switch (how_[position]) {
      case How::Whole:
        break;
      case How::PageLsn:
        state_.selection.set_former_blocks(position,
                                           static_cast<std::uint32_t>(file->size() / kBlockBytes));
        break;
      case How::Blocks:
        take_from(position, file->size() / kBlockBytes);
        break;
      case How::Compare:
        for (std::uint32_t frame = 0;
             frame < std::min<std::size_t>(state_.files.planned_frames(position),
                                           file->frame_hashes().size() / kHashBytes);
             ++frame) {
          state_.selection.set_former_hash(
              first_frame + frame,
              collection::hash_from_bytes(
                  as_bytes(file->frame_hashes()).subspan(frame * kHashBytes, kHashBytes)));
        }
        break;
    }
  }

  std::uint64_t blocks_of(std::size_t position) const {
    return state_.files[position].size / kBlockBytes;
  }

  void take(std::size_t position, std::uint64_t block) {
    state_.selection.add_block(
        state_.files[position].first_frame + static_cast<std::uint32_t>(block / kFrameBlocks),
        block % kFrameBlocks);
  }

  /// `first` of the file on.
  void take_from(std::size_t position, std::uint64_t first) {
    for (std::uint64_t block = first; block < blocks_of(position); ++block) take(position, block);
  }

  void select_changed_blocks() {
    for (const auto& [key, position] : changed_files_) {
      const auto& [relation, segment] = key;
      const auto* fork = changes_.map->find(relation, postgres::Fork::Main);
      const std::uint32_t start = segment * kRelationSegmentBlocks;
      if (fork->limit - start < kRelationSegmentBlocks) take_from(position, fork->limit - start);
    }
    changes_.map->for_each(
        [&](const collection::ForkLocator& fork, const collection::ForkChanges& changes) {
          if (fork.fork != postgres::Fork::Main) return;
          changes.blocks.for_each_run([&](const collection::BlockRun& run) {
            for (std::uint32_t i = 0; i < run.count; ++i) take(fork.relation, run.first + i);
          });
        });
  }

  void take(const postgres::RelationLocator& relation, std::uint32_t block) {
    const std::uint32_t segment = block / kRelationSegmentBlocks;
    if (last_.relation != relation || last_.segment != segment) {
      const auto found = changed_files_.find({relation, segment});
      last_ = {.relation = relation, .segment = segment, .position = {}};
      if (found != changed_files_.end()) last_.position = found->second;
    }
    if (!last_.position) return;  // dropped, or taken whole
    const std::uint32_t in_file = block % kRelationSegmentBlocks;
    // Truncated meanwhile: replay of this layer's WAL knows.
    if (in_file < blocks_of(*last_.position)) take(*last_.position, in_file);
  }

  void mark_unchanged(std::size_t position) {
    const std::uint32_t first = state_.files[position].first_frame;
    for (std::uint32_t frame = 0; frame < state_.files.planned_frames(position); ++frame) {
      if (state_.selection.blocks(first + frame).none()) state_.done[first + frame] = true;
    }
  }

  struct LastFile {
    postgres::RelationLocator relation;
    std::uint32_t segment = ~0U;
    std::optional<std::size_t> position;
  };

  const KnownChanges& changes_;
  CopyState& state_;
  std::unordered_map<std::string_view, const File*> former_;
  ChainIds ids_;
  std::vector<How> how_;
  /// Files of relations that the WAL says something of: (relation, segment) to position.
  std::map<std::pair<postgres::RelationLocator, std::uint32_t>, std::size_t> changed_files_;
  LastFile last_;
};

}  // namespace

void plan_incremental(const Manifest& base, const KnownChanges& changes, const Manifest* earlier,
                      CopyState& state) {
  Planner(base, changes, state).plan(earlier);
}

}  // namespace holdfast::backup
