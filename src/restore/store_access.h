#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/stop.h"
#include "collection/incremental_location.h"
#include "restore_job.pb.h"
#include "storage/store_access.h"

namespace holdfast::restore {

/// How the job reads its collection: as it is, or as it was at a moment.
inline storage::StoreAccess access_of(const proto::RestoreJobSpec& spec) {
  if (!spec.has_versions_at_us()) return {};
  return {.versions_at = time_from_us(spec.versions_at_us())};
}

/// The store of the job's collection, without its keys; `open` is that of the job's services.
template <typename Open>
std::unique_ptr<storage::ObjectStore> open_collection(const proto::RestoreJobSpec& spec,
                                                      const Open& open, const Stop& stop) {
  return collection::open_located(
      spec.collection_uri(), spec.incremental_uri(),
      [&](const std::string& uri) { return open(uri, access_of(spec), stop); });
}

}  // namespace holdfast::restore
