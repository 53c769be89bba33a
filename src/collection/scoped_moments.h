#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/stop.h"
#include "collection/commit_search.h"
#include "collection/moment.h"
#include "manifest.pb.h"
#include "postgres/lsn.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// Moments between the layers of a chain of databases or tables: those that have a history
/// (LayerHistory) lead from the end of the layer that they continue to their own. The layers' own
/// ends are the caller's to look at first. Times and positions mean what they mean to MomentFinder.
///
/// A history is of one timeline, and a chain is one line of layers, so nothing is ambiguous here.
class ScopedMoments {
 public:
  /// `layers` and the store outlive it.
  ScopedMoments(storage::ObjectStore& store, const std::vector<proto::Manifest>& layers,
                const Stop& stop);

  /// Absent where no history covers it.
  std::optional<Moment> at_time(Time moment) const;
  std::optional<Moment> at_lsn(postgres::Lsn lsn) const;
  std::optional<Moment> at_restore_point(std::string_view name) const;

  /// Of a moment with a target, found here. Absent where the history has no commit up to there.
  std::optional<Time> last_commit_before(const Moment& moment) const;

  /// Oldest first.
  std::vector<RestorableWindow> windows() const;

 private:
  struct History {
    const proto::Manifest* base;
    const proto::Manifest* layer;  ///< whose history leads from the base's end to its own
  };

  WalStretch stretch(const History& history) const;
  /// The base's end where there is no such record.
  static Moment moment_at(const History& history, postgres::Lsn record, postgres::Lsn end);

  storage::ObjectStore& store_;
  const std::vector<proto::Manifest>& layers_;
  const Stop& stop_;
  std::vector<History> histories_;  // those with the latest base first
};

}  // namespace holdfast::collection
