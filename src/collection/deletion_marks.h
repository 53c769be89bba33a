#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "base/stop.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// "<full>/deleting/BACKUP-DELETING-<job id>"
storage::ObjectKey deletion_mark_key(std::string_view full, std::int64_t job_id);

/// Says that a job is about to delete the chain of this full. Put before the job looks for locks in
/// the chain: a backup into it takes its lock before it looks for marks, so that at least one of
/// the two sees the other. Having it already is fine. False when the job has withdrawn its mark
/// before and the storage has kept it: then the chain must stay.
bool mark_deletion(storage::ObjectStore& store, std::string_view full, std::int64_t job_id,
                   const Stop& stop);
/// The chain stays, as far as it is there. Where the storage forbids removals, another object
/// says that the mark counts no more.
void withdraw_deletion(storage::ObjectStore& store, std::string_view full, std::int64_t job_id,
                       const Stop& stop);
/// The jobs whose marks count.
std::vector<std::int64_t> deletion_marks(storage::ObjectStore& store, std::string_view full,
                                         const Stop& stop);
/// For a backup that has its lock in the chain of `full`. Throws kObjectInUse when the chain is
/// being deleted.
void require_not_deleted(storage::ObjectStore& store, std::string_view full, const Stop& stop);

/// Takes the collection's lock of those that delete from it. Having it already is fine (a resumed
/// job). Throws kObjectInUse when a job has it for which `has_ended` is false.
void take_retention_lock(storage::ObjectStore& store, std::int64_t job_id,
                         const std::function<bool(std::int64_t)>& has_ended, const Stop& stop);
void release_retention_lock(storage::ObjectStore& store, std::int64_t job_id, const Stop& stop);

}  // namespace holdfast::collection
