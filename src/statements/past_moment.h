#pragma once

#include <functional>
#include <memory>
#include <string>

#include "backup/wal_archives.h"
#include "backup_job.pb.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/stop.h"
#include "collection/key_guard.h"
#include "sql/statements.h"
#include "storage/object_store.h"

namespace holdfast::statements {

/// Where BACKUP … AS OF SYSTEM TIME looks for its moment. Everything outlives the call.
struct PastRequest {
  const sql::Expression& as_of;
  std::string database;  ///< the session's, for milestones
  /// Asked to bring a moment that is only just over into the archive; null: there are none here.
  const backup::WalArchives* archives = nullptr;
  Time now{};
};

/// Throws kInvalidParameterValue, in CockroachDB's words, when the moment is a time that has not
/// come yet.
void require_past(const sql::Expression& as_of, Time now);

/// Of a moment for which there is no chain at all.
Error no_full_of_the_past();

/// For an incremental layer: sets spec.as_of to the moment, which lies behind the chain's latest
/// layer in WAL that the collection has. `store` is the collection, with its keys. Throws
/// kInvalidParameterValue when it does not, with what is covered.
void set_past_moment(const PastRequest& request, storage::ObjectStore& store,
                     backup::proto::BackupJobSpec& spec, const Stop& stop);

/// The chains that a full of the past may be made of.
struct PastChains {
  /// Opens the collection.
  std::function<std::unique_ptr<storage::ObjectStore>()> open_store;
  collection::KeyGuard* guard = nullptr;  ///< null: nothing is encrypted
  std::uint64_t system_identifier = 0;    ///< of the server whose past it is
};
/// For a full: sets spec.as_of and spec.source_keys to the moment and the newest chain of this
/// cluster that covers it. Throws kInvalidParameterValue when none does, with what is covered, and
/// kUndefinedFile when there is no chain of it that can be read.
void set_past_full(const PastRequest& request, const PastChains& chains,
                   backup::proto::BackupJobSpec& spec, const Stop& stop);

}  // namespace holdfast::statements
