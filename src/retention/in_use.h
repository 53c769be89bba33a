#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "collection/survey.h"
#include "jobs/registry.h"
#include "retention/policy.h"

namespace holdfast::retention {

/// The chains that unfinished backups and restores of this daemon work with. Names of fulls are
/// times to a hundredth of a second, so whichever collection they are in is not asked: one more
/// that stays does no harm.
InUse chains_of_jobs(const jobs::Registry& registry);

/// The unfinished backup of this daemon whose layer goes, or will go, into `directory`: it may not
/// have taken its lock yet.
std::optional<jobs::JobId> backup_into(const jobs::Registry& registry, std::string_view directory);

/// Whether the job that a lock is named after may still work. A job that this daemon knows tells;
/// any other is taken to work until nothing has been heard of it for `young`.
class Workers {
 public:
  Workers(const jobs::Registry& registry, std::chrono::microseconds young)
      : registry_(registry), young_(young) {}

  bool may_work(jobs::JobId job, Time newest_sign) const;
  /// The first of these that may.
  std::optional<jobs::JobId> working(const std::vector<jobs::JobId>& jobs, Time newest_sign) const;
  bool is_young(Time moment) const;
  const jobs::Registry& registry() const { return registry_; }

 private:
  const jobs::Registry& registry_;
  const std::chrono::microseconds young_;
};

/// chains_of_jobs(), and the chains with locks of jobs that may still work.
InUse chains_in_use(const jobs::Registry& registry, const Workers& workers,
                    const std::vector<collection::SurveyedChain>& chains);

/// For a restore that has its row already: throws kObjectInUse while a job of this daemon deletes
/// the chain of `layer` (a directory). The deletion asks for restores after it has written down
/// what it deletes, so that at least one of the two sees the other.
void require_not_being_deleted(const jobs::Registry& registry, std::string_view layer);

}  // namespace holdfast::retention
