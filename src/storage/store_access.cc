#include "storage/store_access.h"

#include <fmt/format.h>

namespace holdfast::storage {

Error lock_unsupported(std::string_view driver) {
  return Error(sqlstate::kFeatureNotSupported,
               fmt::format("{} storage does not support object_lock", driver))
      .detail("It has no retention that a client could give to an object.")
      .hint("Use s3://, azure-blob:// or gs:// storage, or leave the option out.");
}

Error versions_unsupported(std::string_view driver) {
  return Error(sqlstate::kFeatureNotSupported,
               fmt::format("{} storage does not support restore_from_versions_at", driver))
      .detail("It does not tell which versions of its objects there were at a moment.")
      .hint("Use s3://, azure-blob:// or gs:// storage that has versioning turned on.");
}

}  // namespace holdfast::storage
