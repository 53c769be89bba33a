#pragma once

#include <memory>
#include <optional>
#include <string>

#include "collection/key_guard.h"
#include "jobs/runner.h"
#include "restore/restore_job.h"
#include "restore_job.pb.h"
#include "sql/statements.h"
#include "statements/collection_place.h"
#include "statements/dispatcher.h"
#include "statements/find_backup.h"
#include "statements/job_result.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// Sets which layer is recovered, and how far the WAL behind it is replayed: the one that ends
/// last, or what AS OF SYSTEM TIME asks for. Gives the layer.
std::string choose_moment(const std::optional<sql::Expression>& as_of, const sql::Targets& targets,
                          storage::ObjectStore& store, const FoundBackup& backup,
                          restore::proto::RestoreJobSpec& spec, const sql::SessionContext& session,
                          const Stop& stop);
/// Notes the backup's keys in `spec`, and gives the store that uses them.
std::unique_ptr<storage::ObjectStore> open_keys(collection::KeyGuard* guard,
                                                std::unique_ptr<storage::ObjectStore> store,
                                                const FoundBackup& backup,
                                                restore::proto::RestoreJobSpec& spec,
                                                const Stop& stop);

/// Opens what a statement names, and notes it in `spec`.
std::unique_ptr<storage::ObjectStore> open_place(Stores& stores, CollectionPlace& place,
                                                 restore::proto::RestoreJobSpec& spec,
                                                 sql::SessionContext& session);

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
