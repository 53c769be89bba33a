#pragma once

#include <optional>
#include <string>

#include "manifest.pb.h"
#include "postgres/lsn.h"
#include "postgres/timeline_path.h"

namespace holdfast::collection {

/// Where replay of WAL behind a layer is to end.
struct RecoveryTarget {
  postgres::TimelineId timeline = 0;
  postgres::Lsn record;  ///< where the last record that is replayed begins
  postgres::Lsn end;     ///< the first byte behind it: where the next timeline begins
  /// The layer in whose history the WAL is (LayerHistory): its directory. Empty: in the archive.
  std::string wal_layer{};
};

/// Where a layer ends by itself. Absent: where its files are consistent, as for each that was taken
/// of a running server.
std::optional<RecoveryTarget> target_of(const proto::Manifest& layer);
proto::RecoveryTarget to_proto(const RecoveryTarget& target);

/// Makes the layer's list of WAL go on from its own end up to `end`, each segment from its timeline
/// on `path`. The sizes of what is added are not set.
void extend_wal(proto::Manifest& layer, const postgres::TimelinePath& path, postgres::Lsn end);

/// Makes the history of `holder`, a layer that continues `layer`, the WAL of `layer`: from its
/// start up to `end`. Of databases with only some tables in scope, `relations` are those of both
/// layers then, and `files` those that the history has whole. Throws kDataCorrupted unless `holder`
/// has a history that leads from `layer` there.
void take_history(proto::Manifest& layer, const proto::Manifest& holder, postgres::Lsn end);

}  // namespace holdfast::collection
