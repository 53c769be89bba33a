#pragma once

#include <vector>

#include "jobs/registry.h"
#include "jobs/runner.h"
#include "sql/statements.h"
#include "statements/dispatcher.h"
#include "statements/id_resolver.h"
#include "statements/job_rights.h"

namespace holdfast::statements {

/// PAUSE, RESUME and CANCEL JOB(S). Statements that name jobs act on all of them or, when one may
/// not be touched or is in a wrong state, on none; those that name a schedule or a type act on the
/// jobs that can follow. The command tag counts them.
class JobControlStatement final : public Handler<sql::JobControl> {
 public:
  JobControlStatement(jobs::Registry& registry, jobs::Runner& runner,
                      sql::StatementRunner& statements)
      : registry_(registry), runner_(runner), resolver_(statements) {}

  void run(const sql::JobControl& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  std::vector<jobs::JobId> named_jobs(const sql::JobControl& statement,
                                      sql::SessionContext& session, const JobRights& rights,
                                      const Stop& stop) const;
  std::vector<jobs::JobId> matching_jobs(const sql::JobControl& statement,
                                         sql::SessionContext& session, const JobRights& rights,
                                         const Stop& stop) const;

  jobs::Registry& registry_;
  jobs::Runner& runner_;
  IdResolver resolver_;
};

}  // namespace holdfast::statements
