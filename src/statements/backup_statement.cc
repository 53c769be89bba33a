#include "statements/backup_statement.h"

#include <fmt/format.h>

#include "backup/backup_job.h"
#include "base/error.h"
#include "collection/collection.h"
#include "sql/printer.h"
#include "statements/job_result.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

void refuse_unsupported(const sql::Backup& statement) {
  switch (statement.targets.kind) {
    case sql::Targets::Kind::Cluster:
      break;
    case sql::Targets::Kind::Databases:
      refuse_missing("BACKUP DATABASE",
                     "the backup of single databases; BACKUP INTO takes the whole cluster");
      break;
    case sql::Targets::Kind::Tables:
      refuse_missing("BACKUP TABLE",
                     "the backup of single tables; BACKUP INTO takes the whole cluster");
      break;
    case sql::Targets::Kind::SystemUsers:
    case sql::Targets::Kind::VirtualCluster:
      refuse_missing("BACKUP VIRTUAL CLUSTER", "virtual clusters, which PostgreSQL does not have");
      break;
  }
  if (statement.onto)
    refuse_missing("BACKUP INTO … IN", "incremental backup; BACKUP INTO takes a full one");
  if (statement.as_of) refuse_missing("BACKUP … AS OF SYSTEM TIME", "revision history");
  refuse_unsupported_options(statement.options, "BACKUP");
}

backup::proto::BackupJobSpec make_spec(const sql::Backup& statement) {
  backup::proto::BackupJobSpec spec;
  spec.set_collection_uri(single_uri(statement.into, "BACKUP"));
  spec.set_compression(statement.options.text("compression").value_or(""));
  if (auto rate = statement.options.text("max_rate")) spec.set_max_rate(parse_rate(*rate));
  spec.set_workers(workers_option(statement.options, backup::kMaxWorkers));
  spec.set_allow_corrupt_pages(statement.options.flag("allow_corrupt_pages"));
  return spec;
}

/// The first subdirectory from `now` on, in steps of its resolution, that no finished full has. Two
/// statements in one centisecond may choose the same: the lock inside decides between them.
std::string choose_subdirectory(storage::ObjectStore& store, Time now, const Stop& stop) {
  for (;;) {
    std::string subdirectory = collection::subdirectory_for(now);
    if (!store.stat(collection::manifest_key(subdirectory), stop)) return subdirectory;
    now += std::chrono::milliseconds(10);
  }
}

/// As in CockroachDB, a job's description names the subdirectory that was chosen.
std::string describe(sql::Backup statement, const std::string& subdirectory) {
  statement.onto =
      sql::Subdirectory{.latest = false, .path = {.value = "/" + subdirectory, .parameter = {}}};
  return sql::print(statement, sql::Redact::Secrets);
}

}  // namespace

void BackupStatement::run(const sql::Backup& statement, sql::SessionContext& session,
                          sql::RowSink& sink, const Stop& stop) {
  Detached detached = statement.options.flag("detached") ? Detached::Yes : Detached::No;
  require_detached_in_transaction("BACKUP", detached, session);
  refuse_unsupported(statement);
  require_cluster_privilege(session, ClusterPrivilege::Backup);
  backup::proto::BackupJobSpec spec = make_spec(statement);
  std::unique_ptr<storage::ObjectStore> store =
      open_for_user(stores_, spec.collection_uri(), session);
  if (!session.server_available()) {
    throw Error(sqlstate::kCannotConnectNow, "cannot take a backup while PostgreSQL is down")
        .hint("Start PostgreSQL, or bring it back with RESTORE.");
  }
  spec.set_subdirectory(choose_subdirectory(*store, clock_.now(), stop));
  backup::check_spec(spec);

  const jobs::NewJob job = new_job({.type = jobs::kBackupType,
                                    .description = describe(statement, spec.subdirectory()),
                                    .statement = sql::print(statement, sql::Redact::Secrets)},
                                   spec, session);
  submit_and_answer(runner_, job, detached, "BACKUP", session, sink, stop);
}

}  // namespace holdfast::statements
