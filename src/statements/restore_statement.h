#pragma once

#include "jobs/runner.h"
#include "restore/restore_job.h"
#include "sql/statements.h"
#include "statements/dispatcher.h"
#include "statements/job_result.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// RESTORE [DATABASE … | TABLE …] FROM … IN: finds the backup, refuses at once what the job would
/// have to refuse, creates the job.
class RestoreStatement final : public Handler<sql::Restore> {
 public:
  RestoreStatement(Stores& stores, jobs::Runner& runner, restore::TargetInstance& instance)
      : stores_(stores), runner_(runner), instance_(instance) {}

  void run(const sql::Restore& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;
  /// The same for a statement that was asked for in other words: `text`, without secrets, is what
  /// the job's row and the history say.
  void run_as(const sql::Restore& statement, std::string text, sql::SessionContext& session,
              sql::RowSink& sink, const Stop& stop);

 private:
  void run_objects(const sql::Restore& statement, std::string text, Detached detached,
                   sql::SessionContext& session, sql::RowSink& sink, const Stop& stop);

  Stores& stores_;
  jobs::Runner& runner_;
  restore::TargetInstance& instance_;
};

}  // namespace holdfast::statements
