#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/stop.h"
#include "collection/wal_archive_input.h"
#include "postgres/lsn.h"
#include "postgres/wal_reader.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// WAL of one cluster in an archive, without a gap.
struct WalStretch {
  ArchivedWal wal;
  int major = 0;
  postgres::Lsn begin;  ///< where a record begins, such as the end of a backup
  postgres::Lsn end;    ///< what WalHoldings::end_of() says
};

struct Commit {
  postgres::Lsn record;  ///< where its record begins
  Time time;
};

/// A place between two records.
struct WalPlace {
  /// The record before it; zero when it is the stretch's very begin.
  postgres::Lsn record;
  postgres::Lsn end;  ///< of that record; the stretch's begin where there is none
  /// The next record begins there or, where there is none yet, will: behind `end` where a page
  /// begins.
  postgres::Lsn next;
  /// The last commit before it, as far as it was looked at; perhaps absent though there is one.
  std::optional<Commit> last_commit;
  /// Of a place that was looked for by time: the last record before it by which a transaction was
  /// committed, aborted or prepared at or before that time. What follows it is the unfinished work
  /// of others, of which not everything waits for a commit: DROP DATABASE removes files before.
  struct Settled {
    postgres::Lsn record;
    postgres::Lsn end;
  };
  std::optional<Settled> settled{};
  /// The commit right behind it; absent when the stretch has none any more.
  std::optional<Commit> next_commit;
};

/// Looks into a stretch of WAL, fetching as few segments as it can. All throw what reading the
/// archive throws, kDataCorrupted when records end long before the stretch does, Stopped.
class CommitSearch {
 public:
  CommitSearch(storage::ObjectStore& store, const WalStretch& stretch, const Stop& stop);

  /// The place before the first commit that is later than `moment`, as PostgreSQL recovers to a
  /// time. Commits are nearly in the order of their times; where a clock was set back far, which of
  /// several such places it is, is not defined.
  WalPlace before_commit_after(Time moment);
  /// The place before the first record that begins at or behind `lsn`.
  WalPlace before(postgres::Lsn lsn);
  /// The place behind the last restore point of this name; absent when there is none. Reads all.
  std::optional<WalPlace> restore_point(std::string_view name);
  std::optional<Commit> first_commit();
  std::optional<Commit> last_commit();

 private:
  std::uint64_t first_segment() const;
  std::uint64_t last_segment() const;
  postgres::Lsn start_of(std::uint64_t segment) const;
  postgres::WalReader reader_at(postgres::Lsn start) const;
  std::optional<Commit> first_commit_in(std::uint64_t segment);
  std::uint64_t segment_to_begin_at(Time moment);
  WalPlace walk(postgres::Lsn from, const std::optional<Time>& moment, postgres::Lsn limit);
  void check_end(const postgres::WalReader& reader) const;

  const WalStretch& stretch_;
  const Stop& stop_;
  postgres::WalInput input_;
};

}  // namespace holdfast::collection
