#pragma once

#include <utility>

#include "base/clock.h"
#include "jobs/runner.h"
#include "sql/statements.h"
#include "statements/backup_scope.h"
#include "statements/dispatcher.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// BACKUP [DATABASE …|TABLE …] INTO [… IN]: checks what can be checked before a job exists, chooses
/// the directory of the full or incremental layer, creates the job.
class BackupStatement final : public Handler<sql::Backup> {
 public:
  BackupStatement(Stores& stores, jobs::Runner& runner, const Clock& clock, LiveServer live)
      : stores_(stores), runner_(runner), clock_(clock), live_(std::move(live)) {}

  void run(const sql::Backup& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  Stores& stores_;
  jobs::Runner& runner_;
  const Clock& clock_;
  const LiveServer live_;
};

}  // namespace holdfast::statements
