#include "statements/job_rights.h"

#include <fmt/format.h>

#include "base/error.h"
#include "statements/privileges.h"

namespace holdfast::statements {

JobRights JobRights::of(sql::SessionContext& session) {
  return {.user = current_user(session), .all = is_administrator(session)};
}

void JobRights::restrict_to_own(jobs::JobFilter& filter) const {
  if (!all) filter.user_name = user;
}

void JobRights::require(const jobs::Job& job) const {
  if (covers(job)) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("user {} does not have privileges for job {}", user, job.id))
      .hint(fmt::format("Its owner, superusers and members of the role {} have them.",
                        kAdministratorRole));
}

}  // namespace holdfast::statements
