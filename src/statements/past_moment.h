#pragma once

#include "backup/wal_archives.h"
#include "backup_job.pb.h"
#include "base/clock.h"
#include "base/stop.h"
#include "sql/statements.h"
#include "storage/object_store.h"

namespace holdfast::statements {

/// Where BACKUP … AS OF SYSTEM TIME looks for its moment. Everything outlives the call.
struct PastRequest {
  const sql::Expression& as_of;
  storage::ObjectStore& store;  ///< the collection, with its keys
  /// Asked to bring a moment that is only just over into the archive; null: there are none here.
  const backup::WalArchives* archives = nullptr;
  Time now;
};

/// Throws kInvalidParameterValue, in CockroachDB's words, when the moment is a time that has not
/// come yet.
void require_past(const sql::Expression& as_of, Time now);

/// For an incremental layer: sets spec.as_of to the moment, which lies behind the chain's latest
/// layer in WAL that the collection has. Throws kInvalidParameterValue when it does not, with
/// what is covered.
void set_past_moment(const PastRequest& request, backup::proto::BackupJobSpec& spec,
                     const Stop& stop);

}  // namespace holdfast::statements
