#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/bytes.h"
#include "base/stop.h"
#include "collection/block_set.h"
#include "postgres/lsn.h"
#include "postgres/relation_path.h"
#include "postgres/wal_changes.h"
#include "postgres/wal_reader.h"
#include "postgres/wal_scan.h"

namespace holdfast::collection {

/// One fork of one relation.
struct ForkLocator {
  postgres::RelationLocator relation;
  postgres::Fork fork = postgres::Fork::Main;
  friend constexpr auto operator<=>(const ForkLocator&, const ForkLocator&) = default;
};

/// Which WAL a block map stands for: all records that begin in [start, end).
struct WalCoverage {
  std::uint64_t system_identifier = 0;
  postgres::TimelineId timeline = 0;  ///< of the end, where a timeline switch lies between
  postgres::Lsn start{};
  postgres::Lsn end{};
  friend constexpr bool operator==(const WalCoverage&, const WalCoverage&) = default;
};

/// Where the records of a range are: what ties its map to that of the range before. Two histories
/// that parted, as after a snapshot of a disk was put back, have theirs in different places.
struct WalRecordChain {
  postgres::Lsn previous{};  ///< start of the record before the first one
  postgres::Lsn last{};      ///< start of the last one; zero: there is none, or it is not known

  bool known() const { return last.valid(); }
  friend constexpr bool operator==(const WalRecordChain&, const WalRecordChain&) = default;
};

/// What changed in one fork.
struct ForkChanges {
  static constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

  /// Every block from here on counts as changed: the fork was created, truncated or dropped in
  /// between. kNoLimit: none.
  std::uint32_t limit = kNoLimit;
  /// The changed ones before the limit.
  BlockSet blocks;

  void change(std::uint32_t block) {
    if (block < limit) blocks.insert(block);
  }
  void change_from(std::uint32_t block);
};

/// Which blocks the WAL of a range changes: what an incremental backup must take again.
///
/// A map may hold more than what changed, never less. It knows nothing of the free space map and
/// visibility map forks, nor of any file that is no relation: those are always copied whole (see
/// postgres::visit_changes).
class BlockMap final : public postgres::WalChangeVisitor {
 public:
  BlockMap() = default;
  explicit BlockMap(const WalCoverage& coverage) : coverage_(coverage) {}

  const WalCoverage& coverage() const { return coverage_; }
  void set_coverage(const WalCoverage& coverage) { coverage_ = coverage; }

  const WalRecordChain& records() const { return records_; }
  void set_records(const WalRecordChain& records) { records_ = records; }
  /// One record more, the next one in the range.
  void add_record(const postgres::WalRecord& record);
  /// False when this map is known to be of another history than `before`, which ends where this one
  /// begins.
  bool continues(const BlockMap& before) const;

  /// WAL was, or may have been, written with wal_level = minimal in the range: files may have
  /// changed without a word in it, so the map must not be used.
  bool is_wal_minimal() const { return wal_minimal_; }
  /// Everything that `database` has in `tablespace` counts as changed.
  bool whole_database(std::uint32_t database, std::uint32_t tablespace) const;
  /// Null when nothing changed in the fork. With whole_database(), a limit of 0.
  const ForkChanges* find(const postgres::RelationLocator& relation, postgres::Fork fork) const;

  /// (database, tablespace) pairs that count as changed.
  const std::set<std::pair<std::uint32_t, std::uint32_t>>& databases() const { return databases_; }
  /// Every fork with changes, but for those of whole databases; ascending.
  void for_each(const std::function<void(const ForkLocator&, const ForkChanges&)>& visit) const;
  std::uint64_t changed_blocks() const;

  /// Adds what `next` says, whose coverage must begin where this one ends, or earlier.
  void merge(const BlockMap& next);

  /// One block more.
  void change(const postgres::BlockKey& key);
  /// Of a fork that the map knows nothing of yet.
  void add(const ForkLocator& fork, ForkChanges changes);

  // What WAL records say:
  void block(const postgres::WalBlock& block) override { change(block.key); }
  void from(const postgres::BlockKey& first) override;
  void relation(const postgres::RelationLocator& relation) override;
  void database(std::uint32_t database, std::uint32_t tablespace) override;
  void wal_minimal() override { wal_minimal_ = true; }

 private:
  struct Hash {
    std::size_t operator()(const ForkLocator& locator) const;
  };
  /// The forks that WAL named last: transactions change the same few over and over, and this finds
  /// them faster than forks_ does. It points into one map's forks_, so that it is neither copied
  /// nor moved along.
  class Recent {
   public:
    struct Entry {
      ForkLocator locator;
      ForkChanges* changes = nullptr;  // in forks_, which forgets none
    };

    Recent() = default;
    Recent(const Recent&) {}
    Recent(Recent&& other) noexcept { other.entries_ = {}; }
    Recent& operator=(const Recent&) {
      entries_ = {};
      return *this;
    }
    Recent& operator=(Recent&& other) noexcept {
      entries_ = other.entries_ = {};
      return *this;
    }
    Entry& place_of(const ForkLocator& locator) {
      return entries_[locator.relation.relation % entries_.size()];
    }

   private:
    std::array<Entry, 16> entries_;
  };
  ForkChanges& changes(const ForkLocator& locator);

  WalCoverage coverage_;
  WalRecordChain records_;
  bool wal_minimal_ = false;
  std::set<std::pair<std::uint32_t, std::uint32_t>> databases_;
  std::unordered_map<ForkLocator, ForkChanges, Hash> forks_;
  Recent recent_;
};

/// As stored beside a WAL segment (docs/formats/block-map.md). The map must cover no more than one
/// segment of the largest size, 1 GiB.
Bytes serialize(const BlockMap& map);
/// Throws kDataCorrupted naming `object`, or kFeatureNotSupported for a newer version. Bytes of any
/// origin are safe to give; memory stays in proportion to the WAL that the map says it covers.
BlockMap parse_block_map(ByteView stored, std::string_view object);

/// Reads the records that begin in the range; `timeline` is the one that it ends on. Throws
/// kDataCorrupted when the WAL is invalid or ends before, Stopped.
BlockMap build_block_map(const postgres::WalRange& range, postgres::TimelineId timeline,
                         const postgres::WalInput& input, const Stop& stop);

}  // namespace holdfast::collection
