#include "backup/backup_job.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <utility>

#include "backup/backup_run.h"
#include "backup/backup_run_internal.h"
#include "backup/base_layer.h"
#include "backup/past_cluster.h"
#include "backup/synthetic_full.h"
#include "backup/wal_cleanup.h"
#include "backup/wal_layer.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/deletion_marks.h"
#include "collection/encryption.h"
#include "collection/frame.h"
#include "collection/incremental_location.h"
#include "collection/object_lock.h"
#include "collection/scope.h"
#include "postgres/control_file.h"

namespace holdfast::backup {

namespace {

/// Whether the attempt failed because PostgreSQL went away, which a later attempt may find back.
bool server_went_away(const Error& error) {
  constexpr std::array kStates = {sqlstate::kConnectionException, sqlstate::kConnectionFailure,
                                  sqlstate::kAdminShutdown, sqlstate::kCannotConnectNow,
                                  SqlState("57P02") /* crash_shutdown */};
  return std::ranges::find(kStates, error.state()) != kStates.end();
}

/// Called while an attempt ends early, for a reason of its own that must not be hidden.
void keep_progress(BackupRun& run) {
  try {
    run.save_progress();
  } catch (const Error& error) {
    log::warning("could not write the checkpoint of the backup: {}", error.message());
  }
}

void take_backup(BackupRun& run, jobs::JobContext& job) {
  if (!run.already_written()) {
    run.take_lock();
    job.pause_point("backup.after_lock");
    run.read_checkpoint();
    job.pause_point("backup.after_checkpoint_read");
    run.connect();
    job.pause_point("backup.after_wal_start");
    run.begin_history();
    run.start_backup();
    job.pause_point("backup.after_start");
    run.find_changes();
    run.find_scope();
    run.plan();
    job.pause_point("backup.after_plan");
    run.reuse_finished_packs();
    job.pause_point("backup.after_reuse");
    run.copy_files();
    job.pause_point("backup.after_copy");
    run.list_catalog();
    job.pause_point("backup.after_catalog");
    run.copy_control_file();
    job.pause_point("backup.after_control");
    run.stop_backup();
    job.pause_point("backup.after_stop");
    run.wait_for_wal();
    job.pause_point("backup.after_wal");
    run.examine_wal();
    run.settle_changed_files();
    job.pause_point("backup.after_verify");
    run.remove_leftovers();
    job.pause_point("backup.before_manifest");
    run.write_manifest();
    job.pause_point("backup.after_manifest");
  }
  run.protect_wal();
  run.move_latest();
  job.pause_point("backup.after_latest");
  run.clean_up();
}

proto::BackupJobSpec specification_of(const jobs::JobContext& job) {
  proto::BackupJobSpec spec;
  const ByteView specification = job.specification();
  if (!spec.ParseFromArray(specification.data(), static_cast<int>(specification.size()))) {
    throw Error(sqlstate::kInternalError, "the specification of the backup job cannot be read");
  }
  return spec;
}

/// A job may start long after its statement.
proto::BackupJobSpec authorized(const BackupEnvironment& environment, const jobs::JobContext& job) {
  proto::BackupJobSpec spec = specification_of(job);
  check_spec(spec);
  if (environment.authorize) environment.authorize(spec, job.stop());
  return spec;
}

/// Whether the full is there for the layer. Throws when the layer cannot go onto it.
bool belongs_to_chain(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                      storage::ObjectStore& store, const Stop& stop) {
  const auto full = collection::read_manifest(store, spec.full(), stop);
  if (!full) return false;  // read_base_layer() says so
  collection::require_scope_in(*full, spec.scope());
  require_same_cluster(*full, postgres::read_control_file(environment.data_directory));
  return true;
}

void tie_to_place(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                  const Stop& stop) {
  const auto access = collection::locking(spec.object_lock(), spec.retain_for_seconds());
  collection::LocatedStore located(environment.stores->open_store(spec.collection_uri(), access),
                                   environment.stores->open_store(spec.incremental_uri(), access),
                                   spec.incremental_uri());
  located.claim(spec.full(), collection::LocatedStore::Claim::Take, collection::Viewer::Other,
                stop);
}

void take_now(const BackupEnvironment& environment, proto::BackupJobSpec spec,
              jobs::JobContext& job) {
  BackupRun run(environment, std::move(spec), job);
  try {
    take_backup(run, job);
  } catch (const Stopped& stopped) {
    if (stopped.reason != StopReason::Cancel) keep_progress(run);
    if (!run.manifest_written()) release_hold(environment, run.specification(), job.id());
    throw;
  } catch (const Error&) {
    keep_progress(run);
    if (!run.manifest_written()) release_hold(environment, run.specification(), job.id());
    throw;
  }
}

}  // namespace

void check_spec(const proto::BackupJobSpec& spec) {
  const auto incremental = collection::parse_incremental_directory(spec.subdirectory());
  const bool belongs = spec.full().empty()
                           ? collection::parse_subdirectory(spec.subdirectory()).has_value()
                           : incremental && incremental->full == spec.full();
  if (!belongs) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("\"{}\" is not a subdirectory of a backup", spec.subdirectory()))
        .hint("Subdirectories look like \"2026/11/20-223000.00\".");
  }
  if (!spec.compression().empty()) collection::Compression::parse(spec.compression());
  if (spec.workers() > kMaxWorkers) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("workers must be between 1 and {}", kMaxWorkers));
  }
}

std::unique_ptr<storage::ObjectStore> open_collection(const BackupEnvironment& environment,
                                                      const proto::BackupJobSpec& spec) {
  const auto access = collection::locking(spec.object_lock(), spec.retain_for_seconds());
  return collection::open_located(
      spec.collection_uri(), spec.incremental_uri(),
      [&](const std::string& uri) { return environment.stores->open_store(uri, access); });
}

void take_layer_lock(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                     jobs::JobId job, storage::ObjectStore& store, const Stop& stop) {
  collection::take_lock(store, spec.subdirectory(), job, stop);
  if (spec.full().empty()) return;
  collection::require_not_deleted(store, spec.full(), stop);
  if (!spec.incremental_uri().empty() && belongs_to_chain(environment, spec, store, stop)) {
    tie_to_place(environment, spec, stop);
    // Where the layer is from here on: the next attempt looks for it there.
    collection::take_lock(store, spec.subdirectory(), job, stop);
  }
  // Somebody may have tied it to another place since the statement looked.
  collection::require_no_hidden_incrementals(store, spec.full(), collection::Viewer::Other, stop);
}

std::filesystem::path spool_of(const BackupEnvironment& environment, jobs::JobId id) {
  return environment.spool_directory / fmt::format("backup-{}", id);
}

BackupJob::BackupJob(BackupEnvironment environment) : environment_(std::move(environment)) {}

void BackupJob::resume(jobs::JobContext& job) {
  try {
    proto::BackupJobSpec spec = authorized(environment_, job);
    if (spec.has_as_of()) {
      return spec.full().empty() ? take_synthetic_full(environment_, spec, job)
                                 : take_wal_layer(environment_, spec, job);
    }
    take_now(environment_, std::move(spec), job);
  } catch (Error& error) {
    if (server_went_away(error)) error.retry(Retry::Safe);
    throw;
  }
}

void BackupJob::revert(jobs::JobContext& job) {
  const proto::BackupJobSpec spec = specification_of(job);
  std::filesystem::remove_all(spool_of(environment_, job.id()));
  if (environment_.past != nullptr && spec.has_as_of()) environment_.past->remove(job.id());
  const auto store = collection::with_keys(open_collection(environment_, spec),
                                           collection::parse_keys(spec.keys()));
  const Stop& stop = job.stop();

  const auto manifest = collection::read_manifest(*store, spec.subdirectory(), stop);
  if (manifest && manifest->job_id() == job.id()) {
    // Readers may have seen it already: it stays, and is made whole.
    if (spec.full().empty()) {
      point_latest_at(*store, *manifest, environment_.clock->now(), stop);
    }
    hand_over_hold(environment_, spec, job.id(), *manifest);
    collection::remove_checkpoints(*store, spec.subdirectory(), stop);
    collection::release_lock(*store, spec.subdirectory(), job.id(), stop);
    return;
  }
  release_hold(environment_, spec, job.id());
  // The lock goes last, so while it is there the layer is this job's, and may be in part.
  const auto lock = collection::lock_key(spec.subdirectory(), job.id());
  if (!store->stat(lock, stop)) return;
  proto::BackupJobCheckpoint row;
  if (const auto bytes = job.checkpoint()) {
    row.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()));
  }
  remove_unneeded_wal(*store,
                      {.subdirectory = spec.subdirectory(),
                       .now = environment_.clock->now(),
                       .has_unfinished_job = environment_.has_unfinished_job},
                      row, stop);
  collection::remove_unfinished(*store, spec.subdirectory(), stop);
}

}  // namespace holdfast::backup
