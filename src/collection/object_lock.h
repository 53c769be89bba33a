#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "storage/store_access.h"

namespace holdfast::collection {

/// Whether an object is there for longer than the job that puts it works: not so locks,
/// checkpoints, marks, and the beginnings of WAL segments, which the whole segments replace.
bool outlives_its_job(const storage::ObjectKey& key);

/// The lock for objects that outlive their job, as a job's specification has it: `mode` is
/// "governance" or "compliance", or empty for none. Throws kInvalidParameterValue for another, and
/// for a time that is zero or longer than a hundred years.
std::optional<storage::ObjectLock> object_lock(std::string_view mode,
                                               std::uint64_t retain_for_seconds);

/// The same, as access to a store.
inline storage::StoreAccess locking(std::string_view mode, std::uint64_t retain_for_seconds) {
  return {.lock = object_lock(mode, retain_for_seconds)};
}

}  // namespace holdfast::collection
