#include "statements/restore_statement.h"

#include <fmt/format.h>

#include "base/error.h"
#include "collection/chain.h"
#include "collection/encryption.h"
#include "restore/tablespace_mapping.h"
#include "restore/user_objects.h"
#include "sql/printer.h"
#include "statements/as_of.h"
#include "statements/encryption.h"
#include "statements/find_backup.h"
#include "statements/job_result.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"
#include "statements/restore_objects.h"

namespace holdfast::statements {

namespace {

constexpr std::uint32_t kMaxWorkers = 64;

void refuse_unsupported(const sql::Restore& statement) {
  switch (statement.targets.kind) {
    case sql::Targets::Kind::Cluster:
      break;
    case sql::Targets::Kind::Databases:
    case sql::Targets::Kind::Tables:
      break;
    case sql::Targets::Kind::SystemUsers:
      refuse_missing("RESTORE SYSTEM USERS",
                     "the restore of roles alone; RESTORE FROM restores the whole cluster");
      break;
    case sql::Targets::Kind::VirtualCluster:
      refuse_missing("RESTORE VIRTUAL CLUSTER", "virtual clusters, which PostgreSQL does not have");
      break;
  }
}

bool of_objects(const sql::Restore& statement) {
  return statement.targets.kind == sql::Targets::Kind::Databases ||
         statement.targets.kind == sql::Targets::Kind::Tables;
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

/// Sets which layer is restored, and how far the WAL behind it is replayed: the one that ends last,
/// or what AS OF SYSTEM TIME asks for. Gives the layer.
std::string choose_moment(const sql::Restore& statement, storage::ObjectStore& store,
                          const FoundBackup& backup, restore::proto::RestoreJobSpec& spec,
                          const Stop& stop) {
  collection::Moment moment{.layer = backup.layers.front(), .target = {}};
  if (statement.as_of || backup.layers.size() > 1) {
    const auto layers = collection::read_manifests(store, backup.layers, stop);
    moment = statement.as_of
                 ? find_moment(*statement.as_of, collection::MomentFinder(store, layers, stop),
                               Clock::system().now())
                 : collection::Moment{collection::latest_layer(layers).subdirectory(), {}};
  }
  spec.set_subdirectory(moment.layer);
  if (moment.target) {
    spec.mutable_target()->set_timeline(moment.target->timeline);
    spec.mutable_target()->set_record(moment.target->record.value);
    spec.mutable_target()->set_end(moment.target->end.value);
  }
  return moment.layer;
}

/// Notes the backup's keys in `spec`, and gives the store that uses them.
std::unique_ptr<storage::ObjectStore> open_keys(collection::KeyGuard* guard,
                                                std::unique_ptr<storage::ObjectStore> store,
                                                const FoundBackup& backup,
                                                restore::proto::RestoreJobSpec& spec,
                                                const Stop& stop) {
  auto keys = collection::open_chain(*store, backup.subdirectory, guard, stop);
  spec.set_keys(collection::serialize_keys(keys));
  return collection::with_keys(std::move(store), std::move(keys));
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
  if (of_objects(statement)) return run_objects(statement, detached, session, sink, stop);
  refuse_unsupported_options(statement.options, "RESTORE");
  require_cluster_privilege(session, ClusterPrivilege::Restore);
  restore::proto::RestoreJobSpec spec = make_spec(statement);
  std::unique_ptr<storage::ObjectStore> store =
      open_for_user(stores_, spec.collection_uri(), session);
  FoundBackup backup = find_backup(*store, statement.from, sink, stop);
  store = open_keys(key_guard(statement.options, stores_, session).get(), std::move(store), backup,
                    spec, stop);
  const std::string directory = choose_moment(statement, *store, backup, spec, stop);
  const auto layer = collection::read_manifest(*store, directory, stop);
  if (layer && layer->scope() != collection::proto::SCOPE_CLUSTER) {
    throw Error(sqlstate::kInvalidParameterValue,
                "full cluster RESTORE can only be used on full cluster BACKUP files");
  }
  if (spec.data_directory().empty() && instance_.running()) {
    if (session.server_available()) require_primary(session, "RESTORE");
    restore::require_no_user_objects(instance_.user_objects(stop));
  }

  const jobs::NewJob job = new_job({.type = jobs::kRestoreType,
                                    .description = describe(statement, backup.subdirectory),
                                    .statement = sql::print(statement, sql::Redact::Secrets)},
                                   spec, session);
  submit_and_answer(runner_, job, detached, "RESTORE", session, sink, stop);
}

void RestoreStatement::run_objects(const sql::Restore& statement, Detached detached,
                                   sql::SessionContext& session, sql::RowSink& sink,
                                   const Stop& stop) {
  // Before anything is told about the backup.
  require_administrator(session, "restore databases and tables");
  check_object_options(statement);
  restore::proto::RestoreJobSpec spec;
  spec.set_collection_uri(single_uri(statement.in, "RESTORE"));
  spec.set_workers(workers_option(statement.options, kMaxWorkers));
  std::unique_ptr<storage::ObjectStore> store =
      open_for_user(stores_, spec.collection_uri(), session);
  const FoundBackup backup = find_backup(*store, statement.from, sink, stop);
  store = open_keys(key_guard(statement.options, stores_, session).get(), std::move(store), backup,
                    spec, stop);
  const std::string layer = choose_moment(statement, *store, backup, spec, stop);
  const auto manifest = collection::read_manifest(*store, layer, stop);
  if (!manifest) {
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("backup \"{}\" does not exist in {}", layer, store->description()));
  }
  *spec.mutable_objects() =
      make_object_spec(statement, *manifest, spec.has_target() ? Behind::Yes : Behind::No, session);
  const jobs::NewJob job = new_job({.type = jobs::kRestoreType,
                                    .description = describe(statement, backup.subdirectory),
                                    .statement = sql::print(statement, sql::Redact::Secrets)},
                                   spec, session);
  submit_and_answer(runner_, job, detached, "RESTORE", session, sink, stop);
}

}  // namespace holdfast::statements
