#include "storage/applied_lock.h"

#include <fmt/format.h>

#include "base/error.h"

namespace holdfast::storage {

void require_applied(const AppliedLock& applied, const ObjectLock& wanted, Time until,
                     const ObjectKey& key, std::string_view store) {
  if (applied.mode == wanted.mode && applied.until &&
      *applied.until >= until - std::chrono::minutes(1)) {
    return;
  }
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("the storage did not lock object \"{}\"", key))
      .detail(fmt::format(
          "{} took the request, and {}.", store,
          applied.mode ? "gave the object another retention" : "gave the object no retention"))
      .hint("Use storage that has object lock turned on, or leave option object_lock out.");
}

}  // namespace holdfast::storage
