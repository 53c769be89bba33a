#include "restore/object_restore_job.h"
#include "restore/store_access.h"

#include <fmt/core.h>

#include <algorithm>
#include <thread>

#include "base/error.h"
#include "collection/encryption.h"
#include "crypto/sealer.h"
#include "postgres/programs.h"
#include "postgres/versions.h"
#include "restore/checks.h"
#include "restore/dump_tools.h"
#include "restore/job_records.h"
#include "restore/recovery_target.h"

namespace holdfast::restore {
namespace {

constexpr std::size_t kTokenBytes = 6;
/// A server that is being restarted is back before this many tries of the cleaning are over.
constexpr int kRevertAttempts = 600;
constexpr std::chrono::seconds kRevertPause{1};

proto::ObjectRestoreCheckpoint read_checkpoint(const jobs::JobContext& job) {
  const auto bytes = job.checkpoint();
  return bytes ? parse_record<proto::ObjectRestoreCheckpoint>(*bytes, "checkpoint")
               : proto::ObjectRestoreCheckpoint();
}

/// One run of resume() or revert().
class Attempt {
 public:
  Attempt(const ObjectRestoreServices& services, jobs::JobContext& job)
      : services_(services),
        job_(job),
        spec_(parse_record<proto::RestoreJobSpec>(job.specification(), "specification")),
        checkpoint_(read_checkpoint(job)),
        run_{.services = services,
             .job = job,
             .steps = steps_,
             .spec = spec_.objects(),
             .checkpoint = checkpoint_,
             .workers = std::min<std::size_t>(
                 spec_.workers() != 0 ? spec_.workers()
                                      : std::max(1U, std::thread::hardware_concurrency()),
                 kMaxWorkers)} {}

  void resume() {
    if (checkpoint_.phase() == proto::OBJECT_RESTORE_PHASE_COMPLETE) return;
    const bool last_step = checkpoint_.phase() == proto::OBJECT_RESTORE_PHASE_FINAL;
    if (!last_step) services_.authorize(spec_, run_.stop());
    open();
    if (last_step) {
      const Built built = objects_->built();
      // What was committed in part was allowed.
      if (built != Built::Final && built != Built::Partly) {
        services_.authorize(spec_, run_.stop());
      }
      if (built != Built::Final) objects_->finish();
      return complete();
    }
    objects_->check_live();
    check_objects(*store_, chain_, target() != nullptr ? WalBehind::Yes : WalBehind::No,
                  run_.workers, run_.stop());
    run_.steps.finished("checked the backup and the names");
    job_.pause_point("restore.objects_after_checks");
    enter(proto::OBJECT_RESTORE_PHASE_BUILD);
    objects_->remove_hidden();
    begin_anew();
    std::int64_t rows = 0;
    {
      Workshop workshop({.directory = workshop_directory(),
                         .pg_bin = find_server(),
                         .chain = chain_,
                         .target = target(),
                         .store = *store_,
                         .files = *services_.files,
                         .workers = run_.workers});
      rows = objects_->build(workshop);
    }
    run_.steps.finished("removed the workshop");
    checkpoint_.set_rows(rows);
    job_.pause_point("restore.objects_before_final");
    enter(proto::OBJECT_RESTORE_PHASE_FINAL);
    run_.stop().check();
    objects_->finish();
    run_.steps.finished("gave everything its name");
    job_.pause_point("restore.objects_after_final");
    complete();
  }

  void revert() {
    remove_workshop();
    if (checkpoint_.phase() == proto::OBJECT_RESTORE_PHASE_UNSPECIFIED) return;
    open();
    if (checkpoint_.phase() >= proto::OBJECT_RESTORE_PHASE_FINAL && stays()) return;
    objects_->remove_hidden();
  }

 private:
  /// Whether all of it has its name, for good. Where some have theirs the others get it, too: users
  /// may have seen them.
  bool stays() {
    Built built = objects_->built();
    if (built == Built::Partly) {
      try {
        objects_->finish();
        built = Built::Final;
      } catch (const Error& error) {
        if (error.state() == sqlstate::kConnectionFailure) throw;
        job_.notice(fmt::format("only some databases got their tables; the others could not: {}",
                                error.message()));
      }
    }
    if (built != Built::Final) return false;
    job_.notice("the restore was complete already; what it restored stays in place");
    return true;
  }

  void open() {
    store_ = collection::with_keys(open_collection(spec_, services_.open_store, run_.stop()),
                                   collection::parse_keys(spec_.keys()));
    chain_ = read_restorable_chain(*store_, spec_.subdirectory(), run_.stop());
    adopt_target(chain_.back(), spec_);
    if (target() != nullptr) add_wal_up_to(*target(), *store_, chain_.back(), run_.stop());
    const auto& manifest = chain_.back();
    run_.between = {.base = spec_.subdirectory(), .wal_layer = spec_.target().wal_layer()};
    run_.live_major = run_.open_live("").server_major();
    if (source_major() > run_.live_major) check_version(manifest, run_.live_major);
    if (run_.spec.system_users()) {
      objects_ = make_users_restore(run_, manifest);
    } else {
      objects_ = run_.spec.databases_size() != 0 ? make_database_restore(run_, manifest)
                                                 : make_table_restore(run_, manifest);
    }
  }

  /// Null: the layer's own end.
  const proto::RecoveryTarget* target() const {
    return spec_.has_target() ? &spec_.target() : nullptr;
  }

  int source_major() const {
    return postgres::major_of(static_cast<int>(chain_.back().instance().server_version_num()));
  }

  std::filesystem::path find_server() {
    const auto given = services_.programs(run_.stop());
    if (!run_.spec.system_users()) {
      run_.dump_programs = find_dump_programs(given, source_major(), run_.live_major, run_.stop());
    }
    const auto found = postgres::find_program(given, source_major(), "postgres", run_.stop());
    if (found) return *found;
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("could not find the programs of PostgreSQL {}, the backup's version",
                            source_major()))
        .hint(
            "Install that version beside the server's own, or name its directory with another "
            "--pg-bin.");
  }

  std::string workshop_directory() const {
    return fmt::format("{}/{}", services_.workshops, job_.id());
  }

  void remove_workshop() {
    // Of an earlier process, if any: this one's are gone with their objects.
    remove_workshop_directory(workshop_directory(), *services_.files);
  }

  /// New names: nobody who saw the earlier ones can have made anything of theirs.
  void begin_anew() {
    checkpoint_.Clear();
    checkpoint_.set_phase(proto::OBJECT_RESTORE_PHASE_BUILD);
    checkpoint_.set_token(to_hex(crypto::random_bytes(kTokenBytes)));
    run_.save_checkpoint();
  }

  void enter(proto::ObjectRestorePhase phase) {
    checkpoint_.set_phase(phase);
    run_.save_checkpoint();
  }

  void complete() {
    job_.set_result_rows(checkpoint_.rows());
    enter(proto::OBJECT_RESTORE_PHASE_COMPLETE);
  }

  const ObjectRestoreServices& services_;
  jobs::JobContext& job_;
  proto::RestoreJobSpec spec_;
  proto::ObjectRestoreCheckpoint checkpoint_;
  StepLog steps_;
  ObjectRestoreRun run_;
  std::unique_ptr<storage::ObjectStore> store_;
  std::vector<collection::proto::Manifest> chain_;
  std::unique_ptr<ObjectRestore> objects_;
};

}  // namespace

postgres::ConnectOptions ObjectRestoreRun::live(const std::string& database) const {
  postgres::ConnectOptions options = services.live();
  if (!database.empty()) options.database = database;
  // A database's owner can make settings for all its sessions, the role among them.
  options.settings = {{"role", "none"},
                      {"search_path", "pg_catalog, pg_temp"},
                      {"row_security", "off"},
                      {"session_replication_role", "origin"},
                      {"default_transaction_read_only", "off"},
                      {"application_name", session_name(job.id())}};
  return options;
}

postgres::Connection ObjectRestoreRun::open_live(const std::string& database) const {
  return postgres::Connection::open(live(database), stop());
}

std::string session_name(jobs::JobId job) { return fmt::format("holdfast restore {}", job); }

std::string ObjectRestoreRun::hidden_name(std::size_t number) const {
  return fmt::format("holdfast_restore_{}_{}_{}", job.id(), checkpoint.token(), number);
}

void ObjectRestoreRun::save_checkpoint() const {
  if (save) return save();
  const std::string bytes = checkpoint.SerializeAsString();
  job.save_checkpoint(as_bytes(bytes));
}

void end_sessions(const ObjectRestoreRun& run, postgres::Connection& live) {
  // The role counts as it logged in. A program that was just being started may come late.
  while (live.query("SELECT pg_catalog.pg_terminate_backend(a.pid) "
                    "FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_stat_activity own "
                    "ON own.pid = pg_catalog.pg_backend_pid() AND own.usesysid = a.usesysid "
                    "WHERE a.application_name = $1 AND a.pid <> own.pid "
                    "AND a.backend_type = 'client backend'",
                    {session_name(run.job.id())}, run.stop())
             .rows() != 0) {
    run.stop().sleep(std::chrono::milliseconds(20));
  }
}

std::uint32_t database_oid(const collection::proto::Manifest& manifest, const std::string& name) {
  for (const auto& object : manifest.objects()) {
    if (object.type() == "database" && object.name() == name) return object.oid();
  }
  throw Error(sqlstate::kInvalidCatalogName,
              fmt::format("failed to resolve targets in the BACKUP location specified by the "
                          "RESTORE statement, use SHOW BACKUP to find correct targets: database "
                          "\"{}\" does not exist, or invalid RESTORE timestamp: supplied backups "
                          "do not cover requested time",
                          name));
}

void ObjectRestoreJob::resume(jobs::JobContext& job) { Attempt(services_, job).resume(); }

void ObjectRestoreJob::revert(jobs::JobContext& job) {
  // Nothing may stay behind because the server was being restarted in this very moment.
  for (int attempt = 1;; ++attempt) {
    try {
      Attempt(services_, job).revert();
      return;
    } catch (const Error& error) {
      const bool down = error.state() == sqlstate::kCannotConnectNow ||
                        error.state() == sqlstate::kConnectionFailure ||
                        error.state() == sqlstate::kAdminShutdown;
      if (!down || attempt == kRevertAttempts) throw;
    }
    job.stop().sleep(kRevertPause);
  }
}

jobs::JobBody& AnyRestoreJob::body_for(const jobs::JobContext& job) {
  if (parse_record<proto::RestoreJobSpec>(job.specification(), "specification").has_objects()) {
    return objects_;
  }
  return cluster_;
}

}  // namespace holdfast::restore
