#include "statements/alter_job.h"

#include "base/error.h"
#include "statements/job_rights.h"
#include "statements/privileges.h"

namespace holdfast::statements {

void AlterJobStatement::run(const sql::AlterJobOwner& statement, sql::SessionContext& session,
                            sql::RowSink& sink, const Stop&) {
  const auto id = resolver_.evaluate(statement.job, session);
  if (!id) throw Error(SqlState("22004"), "the id of the job must not be null");
  const JobRights rights = JobRights::of(session);
  rights.require(registry_.get(*id));
  require_membership(session, statement.owner);
  registry_.set_owner(*id, statement.owner);
  sink.complete("ALTER JOB");
}

}  // namespace holdfast::statements
