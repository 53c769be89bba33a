#include "statements/restore_statement.h"

#include <fmt/format.h>

#include "base/error.h"
#include "collection/chain.h"
#include "restore/tablespace_mapping.h"
#include "restore/user_objects.h"
#include "sql/printer.h"
#include "statements/as_of.h"
#include "statements/find_backup.h"
#include "statements/job_result.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

constexpr std::uint32_t kMaxWorkers = 64;

void refuse_unsupported(const sql::Restore& statement) {
  switch (statement.targets.kind) {
    case sql::Targets::Kind::Cluster:
      break;
    case sql::Targets::Kind::Databases:
      refuse_missing("RESTORE DATABASE",
                     "the restore of single databases; RESTORE FROM restores the whole cluster");
      break;
    case sql::Targets::Kind::Tables:
      refuse_missing("RESTORE TABLE",
                     "the restore of single tables; RESTORE FROM restores the whole cluster");
      break;
    case sql::Targets::Kind::SystemUsers:
      refuse_missing("RESTORE SYSTEM USERS",
                     "the restore of roles alone; RESTORE FROM restores the whole cluster");
      break;
    case sql::Targets::Kind::VirtualCluster:
      refuse_missing("RESTORE VIRTUAL CLUSTER", "virtual clusters, which PostgreSQL does not have");
      break;
  }
  refuse_unsupported_options(statement.options, "RESTORE");
}

restore::proto::RestoreJobSpec make_spec(const sql::Restore& statement) {
  restore::proto::RestoreJobSpec spec;
  spec.set_collection_uri(single_uri(statement.in, "RESTORE"));
  if (auto directory = statement.options.text("data_directory")) {
    if (!directory->starts_with('/')) {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("invalid value for option data_directory: \"{}\"", *directory))
          .hint("Give an absolute path on the host of the daemon.");
    }
    spec.set_data_directory(*directory);
  }
  if (auto mapping = statement.options.text("tablespace_mapping")) {
    for (auto& entry : restore::parse_tablespace_mapping(*mapping))
      *spec.add_tablespace_mapping() = std::move(entry);
  }
  spec.set_delta(statement.options.flag("delta"));
  if (spec.delta() && spec.data_directory().empty()) {
    throw Error(sqlstate::kInvalidParameterValue, "option delta needs option data_directory")
        .detail(
            "A restore into the instance itself keeps the old data directory whole, so nothing of "
            "it can be used again.");
  }
  spec.set_workers(workers_option(statement.options, kMaxWorkers));
  if (auto rate = statement.options.text("max_rate")) spec.set_max_rate(parse_rate(*rate));
  return spec;
}

std::string describe(sql::Restore statement, const std::string& subdirectory) {
  statement.from =
      sql::Subdirectory{.latest = false, .path = {.value = "/" + subdirectory, .parameter = {}}};
  return sql::print(statement, sql::Redact::Secrets);
}

}  // namespace

void RestoreStatement::run(const sql::Restore& statement, sql::SessionContext& session,
                           sql::RowSink& sink, const Stop& stop) {
  Detached detached = statement.options.flag("detached") ? Detached::Yes : Detached::No;
  require_detached_in_transaction("RESTORE", detached, session);
  refuse_unsupported(statement);
  require_cluster_privilege(session, ClusterPrivilege::Restore);
  restore::proto::RestoreJobSpec spec = make_spec(statement);
  std::unique_ptr<storage::ObjectStore> store =
      open_for_user(stores_, spec.collection_uri(), session);
  FoundBackup backup = find_backup(*store, statement.from, stop);
  std::string directory = backup.layers.back();
  if (statement.as_of) {
    const Time moment = as_of_time(*statement.as_of, Clock::system().now());
    directory = layer_ending_at(collection::read_manifests(*store, backup.layers, stop), moment);
  }
  const auto layer = collection::read_manifest(*store, directory, stop);
  if (layer && layer->scope() != collection::proto::SCOPE_CLUSTER) {
    throw Error(sqlstate::kInvalidParameterValue,
                "full cluster RESTORE can only be used on full cluster BACKUP files");
  }
  spec.set_subdirectory(directory);
  if (spec.data_directory().empty() && instance_.running()) {
    restore::require_no_user_objects(instance_.user_objects(stop));
  }

  const jobs::NewJob job = new_job({.type = jobs::kRestoreType,
                                    .description = describe(statement, backup.subdirectory),
                                    .statement = sql::print(statement, sql::Redact::Secrets)},
                                   spec, session);
  submit_and_answer(runner_, job, detached, "RESTORE", session, sink, stop);
}

}  // namespace holdfast::statements
