#pragma once

#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/stop.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// Notices the layers that somebody begins in a collection while WAL is removed from it. A backup
/// takes its lock first, and counts on the WAL that it finds afterwards: so whoever removes many
/// segments looks again before each few of them.
class NewLayers {
 public:
  /// `known`: the directories of the layers, finished or not, by which it was decided what may go.
  NewLayers(storage::ObjectStore& store, std::set<std::string> known)
      : store_(store), known_(std::move(known)) {}

  /// The directory of a layer that is not known, and has a lock or a manifest. Absent when there is
  /// none. Lists directories only, about three for each chain: of a chain's incremental layers the
  /// two newest days, because a new layer is named after all that are finished.
  std::optional<std::string> find(const Stop& stop) const;

 private:
  bool is_new(const std::string& directory, const Stop& stop) const;

  storage::ObjectStore& store_;
  const std::set<std::string> known_;
};

}  // namespace holdfast::collection
