#include "statements/restore_statement.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "collection/chain.h"
#include "collection/encryption.h"
#include "restore/job_records.h"
#include "restore/recovery_target.h"
#include "restore/store_access.h"
#include "restore/tablespace_mapping.h"
#include "restore/user_objects.h"
#include "sql/printer.h"
#include "statements/encryption.h"
#include "statements/job_result.h"
#include "statements/milestone_statements.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"
#include "statements/restore_objects.h"
#include "statements/storage_options.h"

namespace holdfast::statements {

namespace {

void refuse_unsupported(const sql::Restore& statement) {
  switch (statement.targets.kind) {
    case sql::Targets::Kind::Cluster:
      break;
    case sql::Targets::Kind::Databases:
    case sql::Targets::Kind::Tables:
    case sql::Targets::Kind::SystemUsers:
      break;
    case sql::Targets::Kind::VirtualCluster:
      refuse_missing("RESTORE VIRTUAL CLUSTER", "virtual clusters, which PostgreSQL does not have");
      break;
  }
}

bool of_objects(const sql::Restore& statement) {
  return statement.targets.kind == sql::Targets::Kind::Databases ||
         statement.targets.kind == sql::Targets::Kind::Tables ||
         statement.targets.kind == sql::Targets::Kind::SystemUsers;
}

restore::proto::RestoreJobSpec make_spec(const sql::Restore& statement) {
  restore::proto::RestoreJobSpec spec;
  if (const auto at = versions_option(statement.options)) {
    spec.set_versions_at_us(at->time_since_epoch().count());
  }
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
  spec.set_workers(workers_option(statement.options, restore::kMaxWorkers));
  if (auto rate = statement.options.text("max_rate")) spec.set_max_rate(parse_rate(*rate));
  return spec;
}

std::string describe(sql::Restore statement, const std::string& subdirectory) {
  statement.from =
      sql::Subdirectory{.latest = false, .path = {.value = "/" + subdirectory, .parameter = {}}};
  return sql::print(statement, sql::Redact::Secrets);
}

}  // namespace

std::string choose_moment(const std::optional<sql::Expression>& as_of, const sql::Targets& targets,
                          storage::ObjectStore& store, const FoundBackup& backup,
                          restore::proto::RestoreJobSpec& spec, const sql::SessionContext& session,
                          const Stop& stop) {
  const auto layers = collection::read_manifests(store, backup.layers, stop);
  collection::Moment moment = collection::end_of(collection::latest_layer(layers));
  if (as_of) {
    const collection::MomentFinder finder(store, layers, stop);
    moment = find_moment_or_milestone(
        *as_of,
        {.store = store,
         .system_identifier = layers.front().instance().system_identifier(),
         .finder = finder,
         .targets = targets,
         .database = session.database(),
         .now = Clock::system().now()},
        stop);
  }
  spec.set_subdirectory(moment.layer);
  if (moment.target) restore::set_target(*moment.target, spec);
  return moment.layer;
}

std::unique_ptr<storage::ObjectStore> open_keys(collection::KeyGuard* guard,
                                                std::unique_ptr<storage::ObjectStore> store,
                                                const FoundBackup& backup,
                                                restore::proto::RestoreJobSpec& spec,
                                                const Stop& stop) {
  auto keys = collection::open_chain(*store, backup.subdirectory, guard, stop);
  spec.set_keys(collection::serialize_keys(keys));
  return collection::with_keys(std::move(store), std::move(keys));
}

std::unique_ptr<storage::ObjectStore> open_place(Stores& stores, CollectionPlace& place,
                                                 restore::proto::RestoreJobSpec& spec,
                                                 sql::SessionContext& session) {
  auto opened = open_collection(stores, place, session, restore::access_of(spec));
  spec.set_collection_uri(place.uri);
  spec.set_incremental_uri(place.incremental_uri);
  return std::move(opened.store);
}

void RestoreStatement::run(const sql::Restore& statement, sql::SessionContext& session,
                           sql::RowSink& sink, const Stop& stop) {
  run_as(statement, sql::print(statement, sql::Redact::Secrets), session, sink, stop);
}

void RestoreStatement::run_as(const sql::Restore& statement, std::string text,
                              sql::SessionContext& session, sql::RowSink& sink, const Stop& stop) {
  Detached detached = statement.options.flag("detached") ? Detached::Yes : Detached::No;
  require_detached_in_transaction("RESTORE", detached, session);
  refuse_unsupported(statement);
  if (of_objects(statement)) {
    return run_objects(statement, std::move(text), detached, session, sink, stop);
  }
  refuse_unsupported_options(statement.options, "RESTORE");
  require_cluster_privilege(session, ClusterPrivilege::Restore);
  restore::proto::RestoreJobSpec spec = make_spec(statement);
  CollectionPlace place = collection_place(statement.in, statement.options, "RESTORE", session);
  for (const std::string& uri : {place.uri, place.incremental_uri}) {
    if (uri.empty()) continue;
    refuse_userfile(stores_, uri, "RESTORE of a whole cluster",
                    "The server that the backup is in would have to be replaced by it.");
  }
  auto store = open_place(stores_, place, spec, session);
  FoundBackup backup =
      find_backup(*store, statement.from, hidden_layers(place, session), sink, stop);
  store = open_keys(key_guard(statement.options, stores_, session).get(), std::move(store), backup,
                    spec, stop);
  const std::string directory =
      choose_moment(statement.as_of, statement.targets, *store, backup, spec, session, stop);
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
                                    .statement = std::move(text)},
                                   spec, session);
  submit_and_answer(runner_, job, detached, "RESTORE", session, sink, stop);
}

void RestoreStatement::run_objects(const sql::Restore& statement, std::string text,
                                   Detached detached, sql::SessionContext& session,
                                   sql::RowSink& sink, const Stop& stop) {
  // Before anything is told about the backup.
  require_object_right(statement.targets.kind, session);
  check_object_options(statement);
  restore::proto::RestoreJobSpec spec;
  if (const auto at = versions_option(statement.options)) {
    spec.set_versions_at_us(at->time_since_epoch().count());
  }
  CollectionPlace place = collection_place(statement.in, statement.options, "RESTORE", session);
  spec.set_workers(workers_option(statement.options, restore::kMaxWorkers));
  auto store = open_place(stores_, place, spec, session);
  const FoundBackup backup =
      find_backup(*store, statement.from, hidden_layers(place, session), sink, stop);
  store = open_keys(key_guard(statement.options, stores_, session).get(), std::move(store), backup,
                    spec, stop);
  const std::string layer =
      choose_moment(statement.as_of, statement.targets, *store, backup, spec, session, stop);
  const auto manifest = collection::read_manifest(*store, layer, stop);
  if (!manifest) {
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("backup \"{}\" does not exist in {}", layer, store->description()));
  }
  *spec.mutable_objects() =
      make_object_spec(statement, *manifest, spec.has_target() ? Behind::Yes : Behind::No, session);
  const jobs::NewJob job = new_job({.type = jobs::kRestoreType,
                                    .description = describe(statement, backup.subdirectory),
                                    .statement = std::move(text)},
                                   spec, session);
  submit_and_answer(runner_, job, detached, "RESTORE", session, sink, stop);
}

}  // namespace holdfast::statements
