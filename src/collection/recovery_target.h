#pragma once

#include <optional>

#include "manifest.pb.h"
#include "postgres/lsn.h"
#include "postgres/timeline_path.h"

namespace holdfast::collection {

/// Where replay of WAL behind a layer is to end.
struct RecoveryTarget {
  postgres::TimelineId timeline = 0;
  postgres::Lsn record;  ///< where the last record that is replayed begins
  postgres::Lsn end;     ///< the first byte behind it: where the next timeline begins
};

/// Where a layer ends by itself. Absent: where its files are consistent, as for each that was taken
/// of a running server.
std::optional<RecoveryTarget> target_of(const proto::Manifest& layer);
proto::RecoveryTarget to_proto(const RecoveryTarget& target);

/// Makes the layer's list of WAL go on from its own end up to `end`, each segment from its timeline
/// on `path`. The sizes of what is added are not set.
void extend_wal(proto::Manifest& layer, const postgres::TimelinePath& path, postgres::Lsn end);

}  // namespace holdfast::collection
