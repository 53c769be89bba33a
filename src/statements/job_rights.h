#pragma once

#include <string>

#include "jobs/registry.h"
#include "sql/statement_runner.h"

namespace holdfast::statements {

/// What the user of a session may see and do with jobs: his own ones, or all for an administrator.
struct JobRights {
  std::string user;
  bool all = false;

  static JobRights of(sql::SessionContext& session);

  bool covers(const jobs::Job& job) const { return all || job.user_name == user; }
  /// Leaves only the jobs that the user may see.
  void restrict_to_own(jobs::JobFilter& filter) const;
  /// Throws kInsufficientPrivilege for somebody else's job.
  void require(const jobs::Job& job) const;
};

}  // namespace holdfast::statements
