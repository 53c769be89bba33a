#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/stop.h"
#include "collection/commit_search.h"
#include "collection/recovery_target.h"
#include "collection/wal_holdings.h"
#include "manifest.pb.h"
#include "postgres/lsn.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// A moment of a cluster's history: a layer, and how far its WAL is replayed.
struct Moment {
  std::string layer;                     ///< directory
  std::optional<RecoveryTarget> target;  ///< absent: where the layer's files are consistent
};
/// What a layer is restored to unless another moment is asked for.
Moment end_of(const proto::Manifest& layer);

/// For whom a moment is looked for: the errors speak of it.
enum class MomentFor { Restore, Backup };

/// Moments that can be restored. One layer alone, without WAL behind it, is its end only.
struct RestorableWindow {
  postgres::TimelineId timeline = 0;
  Time begin, end;
  postgres::Lsn begin_lsn, end_lsn;
};
/// "2026-11-20 22:30:00+00 to 2026-11-20 22:45:10.25+00 (timeline 1)"
std::string to_string(const RestorableWindow& window);

class ScopedMoments;

/// Finds moments in the layers of a full backup and the WAL archive behind them; of databases or
/// tables, in the layers' own WAL.
class MomentFinder {
 public:
  /// `layers` as list_layers() names them, at least the full; read_manifests() gives them. They and
  /// the store outlive the finder.
  MomentFinder(storage::ObjectStore& store, const std::vector<proto::Manifest>& layers,
               const Stop& stop, MomentFor purpose = MomentFor::Restore);
  ~MomentFinder();

  /// The last commit at or before `moment`, and whatever else was aborted or prepared by then: none
  /// of what is unfinished before the first commit after it. Throws
  /// kInvalidParameterValue when the archive does not tell what was committed by then, naming the
  /// windows, and when timelines differ about it.
  Moment at_time(Time moment) const;
  /// Everything that begins before `lsn`, with the same refusals.
  Moment at_lsn(postgres::Lsn lsn) const;
  /// The same for a position on one timeline, where a record must end: as a restore point of which
  /// both are known does. Throws kDataCorrupted when none does (of databases or tables: that it is
  /// not covered).
  Moment behind(postgres::TimelineId timeline, postgres::Lsn lsn) const;
  /// The last restore point of that name on the newest timeline that has one. Reads all WAL.
  Moment at_restore_point(std::string_view name) const;

  /// When the last commit was made that a moment, which this finder found, has; the end time of its
  /// layer where the WAL behind that has none.
  Time last_commit_before(const Moment& moment) const;

  /// Oldest first; those of one timeline side by side.
  std::vector<RestorableWindow> windows() const;

 private:
  struct Found {
    const proto::Manifest* layer = nullptr;
    WalPlace place;
    postgres::TimelineId timeline = 0;  // to recover along
    postgres::TimelineId of_place = 0;  // that the place belongs to
    /// The timeline's own first commit is later: it may be that nothing was committed by then.
    bool before_own_commits = false;
  };

  const proto::Manifest* last_layer(const postgres::TimelinePath& path,
                                    const std::function<bool(const proto::Manifest&)>& fits) const;
  WalStretch stretch(const postgres::TimelinePath& path, postgres::Lsn begin) const;
  std::optional<Found> look_for(const ArchivedTimeline& timeline, Time moment) const;
  std::optional<Found> look_for(const ArchivedTimeline& timeline, postgres::Lsn lsn) const;
  bool is_covered(const ArchivedTimeline& timeline, const WalPlace& place, Time moment) const;
  bool other_future(const Found& found) const;
  bool settled_on_own_timeline(const Found& found) const;
  std::vector<RestorableWindow> windows_of(const ArchivedTimeline& timeline) const;
  std::optional<RestorableWindow> with_times(const ArchivedTimeline& timeline,
                                             const proto::Manifest* layer, postgres::Lsn begin,
                                             postgres::Lsn end) const;
  /// `what` for the error; `moment` when it is a time.
  Moment choose(std::vector<Found> found, std::string_view what,
                const std::optional<Time>& moment) const;
  Error not_covered(const std::optional<Time>& moment) const;
  Error only_ends(Time moment) const;

  storage::ObjectStore& store_;
  const std::vector<proto::Manifest>& layers_;
  const Stop& stop_;
  const MomentFor purpose_;
  WalHoldings holdings_;
  std::unique_ptr<const ScopedMoments> scoped_;  // of databases or tables; then holdings_ is empty
};

}  // namespace holdfast::collection
