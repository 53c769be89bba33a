#pragma once

#include <optional>
#include <string_view>

#include "base/clock.h"
#include "storage/object_store.h"
#include "storage/store_access.h"

namespace holdfast::storage {

/// What a service says of an object's retention, compared with what was asked for. A service may
/// round the time; a minute is nothing here.
struct AppliedLock {
  std::optional<LockMode> mode = std::nullopt;  ///< absent: none
  std::optional<Time> until = std::nullopt;
};
/// Throws kObjectNotInPrerequisiteState when the object is not locked as it should be. Stores of
/// other makers may take the request for a lock, and do nothing.
void require_applied(const AppliedLock& applied, const ObjectLock& wanted, Time until,
                     const ObjectKey& key, std::string_view store);

}  // namespace holdfast::storage
