#pragma once

#include "base/clock.h"
#include "restore_job.pb.h"
#include "storage/store_access.h"

namespace holdfast::restore {

/// How the job reads its collection: as it is, or as it was at a moment.
inline storage::StoreAccess access_of(const proto::RestoreJobSpec& spec) {
  if (!spec.has_versions_at_us()) return {};
  return {.versions_at = time_from_us(spec.versions_at_us())};
}

}  // namespace holdfast::restore
