#include "collection/object_lock.h"

#include <fmt/format.h>

#include "base/error.h"
#include "collection/format.h"

namespace holdfast::collection {

namespace {

/// Far beyond use, and within what dates can say everywhere.
constexpr std::uint64_t kLongestRetention = 100ULL * 366 * 86400;

}  // namespace

bool outlives_its_job(const storage::ObjectKey& key) {
  const std::string_view name = std::string_view(key).substr(key.rfind('/') + 1);
  for (const std::string_view start :
       {kLockPrefix, kCheckpointPrefix, kDeletionPrefix, kRetentionLockPrefix}) {
    if (name.starts_with(start)) return false;
  }
  return !name.ends_with(kWalTailSuffix) && !name.ends_with(kWalTimeSuffix);
}

std::optional<storage::ObjectLock> object_lock(std::string_view mode,
                                               std::uint64_t retain_for_seconds) {
  if (mode.empty()) return std::nullopt;
  if (mode != "governance" && mode != "compliance") {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("invalid value for option object_lock: \"{}\"", mode))
        .hint("Valid values are 'governance' and 'compliance'.");
  }
  if (retain_for_seconds == 0 || retain_for_seconds > kLongestRetention) {
    throw Error(sqlstate::kInvalidParameterValue,
                "option retain_for must be more than 0 and less than 100 years");
  }
  return storage::ObjectLock{
      .mode = mode == "compliance" ? storage::LockMode::Compliance : storage::LockMode::Governance,
      .retain_for = std::chrono::seconds(retain_for_seconds),
      .applies_to = outlives_its_job};
}

}  // namespace holdfast::collection
