#pragma once

#include "jobs/registry.h"
#include "jobs/runner.h"
#include "retention/retention_job.h"
#include "sql/statements.h"
#include "statements/dispatcher.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// DELETE BACKUPS … IN: creates the job and answers what became of each chain.
class DeleteBackupsStatement final : public Handler<sql::DeleteBackups> {
 public:
  DeleteBackupsStatement(Stores& stores, jobs::Registry& registry, jobs::Runner& runner,
                         retention::RetentionEnvironment environment)
      : stores_(stores), registry_(registry), runner_(runner), environment_(environment) {}

  void run(const sql::DeleteBackups& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  Stores& stores_;
  jobs::Registry& registry_;
  jobs::Runner& runner_;
  const retention::RetentionEnvironment environment_;
};

}  // namespace holdfast::statements
