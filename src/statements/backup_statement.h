#pragma once

#include <utility>

#include "backup/wal_archives.h"
#include "base/clock.h"
#include "jobs/runner.h"
#include "sql/statements.h"
#include "statements/backup_scope.h"
#include "statements/dispatcher.h"
#include "statements/past_moment.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// BACKUP [DATABASE …|TABLE …] INTO [… IN]: checks what can be checked before a job exists, chooses
/// the directory of the full or incremental layer, creates the job.
class BackupStatement final : public Handler<sql::Backup> {
 public:
  /// Everything outlives the handler. Without archives no moment is waited for.
  BackupStatement(Stores& stores, jobs::Runner& runner, const Clock& clock, LiveServer live,
                  const backup::WalArchives* archives = nullptr)
      : stores_(stores),
        runner_(runner),
        clock_(clock),
        live_(std::move(live)),
        archives_(archives) {}

  void run(const sql::Backup& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;
  /// The same for a statement that was asked for in other words: `text`, without secrets, is what
  /// the job's row and the history say.
  void run_as(const sql::Backup& statement, std::string text, sql::SessionContext& session,
              sql::RowSink& sink, const Stop& stop);

 private:
  PastRequest past_request(const sql::Expression& as_of, sql::SessionContext& session,
                           Time now) const;

  Stores& stores_;
  jobs::Runner& runner_;
  const Clock& clock_;
  const LiveServer live_;
  const backup::WalArchives* archives_;
};

}  // namespace holdfast::statements
