#include "restore/restore_job.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <atomic>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "collection/encryption.h"
#include "postgres/lsn.h"
#include "restore/checks.h"
#include "restore/durability.h"
#include "restore/fill.h"
#include "restore/job_records.h"
#include "restore/marker.h"
#include "restore/recovery_files.h"
#include "restore/recovery_target.h"
#include "restore/replayed_tablespaces.h"
#include "restore/store_access.h"
#include "restore/swap.h"
#include "restore/target.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;
using proto::RestoreCheckpoint;
using proto::RestoreJobSpec;

RestoreCheckpoint read_cluster_checkpoint(const jobs::JobContext& job) {
  const auto bytes = job.checkpoint();
  return bytes ? parse_record<RestoreCheckpoint>(*bytes, "checkpoint") : RestoreCheckpoint();
}

void save(jobs::JobContext& job, const RestoreCheckpoint& checkpoint) {
  const std::string bytes = checkpoint.SerializeAsString();
  job.save_checkpoint(as_bytes(bytes));
}

std::string describe_aside(const RestoreCheckpoint& checkpoint) {
  std::string text;
  for (const auto& move : checkpoint.moves()) {
    if (!path_exists(move.aside())) continue;
    text += fmt::format("{}\"{}\"", text.empty() ? "" : ", ", move.aside());
  }
  return text;
}

/// One run of resume().
class ClusterAttempt {
 public:
  ClusterAttempt(const RestoreServices& services, jobs::JobContext& job)
      : services_(services),
        job_(job),
        files_(*services.files),
        spec_(parse_record<RestoreJobSpec>(job.specification(), "specification")),
        checkpoint_(read_cluster_checkpoint(job)) {}

  void run() {
    if (checkpoint_.phase() <= proto::RESTORE_PHASE_FILL) {
      open();
      if (checkpoint_.phase() == proto::RESTORE_PHASE_UNSPECIFIED) prepare();
      fill();
    }
    if (in_place()) switch_over();
    finish();
  }

  /// Everything is in its place; only our traces are left. Not to be stopped any more.
  void finish() {
    if (in_place()) {
      finish_in_place();
    } else {
      finish_elsewhere();
    }
  }

 private:
  bool in_place() const { return spec_.data_directory().empty(); }

  const Stop& stop() const { return job_.stop(); }

  /// Null: the layer's own end.
  const proto::RecoveryTarget* target() const {
    return spec_.has_target() ? &spec_.target() : nullptr;
  }

  /// Two for each core: half of its time a worker waits for the disk, or for the store.
  std::size_t workers() const {
    const std::size_t asked = spec_.workers();
    const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
    return std::min(asked != 0 ? asked : 2 * cores, kMaxWorkers);
  }

  void enter(proto::RestorePhase phase) {
    checkpoint_.set_phase(phase);
    save(job_, checkpoint_);
  }

  void open() {
    store_ = collection::with_keys(open_collection(spec_, services_.open_store, stop()),
                                   collection::parse_keys(spec_.keys()));
    chain_ = read_cluster_chain(*store_, spec_.subdirectory(), stop());
    adopt_target(chain_.back(), spec_);
    if (target() != nullptr) add_wal_up_to(*target(), *store_, chain_.back(), stop());
    manifest_ = chain_.back();
    total_ = manifest_.plain_bytes() +
             manifest_.instance().wal_segment_bytes() * static_cast<unsigned>(manifest_.wal_size());
  }

  Layout make_layout() const {
    return restore::make_layout(
        manifest_, {.root = checkpoint_.root(),
                    .final_root = in_place() ? checkpoint_.moves(0).live() : checkpoint_.root(),
                    .tablespace_mapping = {spec_.tablespace_mapping().begin(),
                                           spec_.tablespace_mapping().end()},
                    .tablespace_build_name = in_place() ? staging_name(job_.id()) : std::string(),
                    .replayed = {checkpoint_.replayed().begin(), checkpoint_.replayed().end()}});
  }

  /// Everything that can be found out without writing.
  void prepare() {
    check_version(manifest_, services_.instance->binaries_major_version());
    find_replayed_tablespaces();
    if (in_place()) {
      prepare_in_place();
    } else {
      prepare_elsewhere();
    }
    check_objects(*store_, chain_, target() != nullptr ? WalBehind::Yes : WalBehind::No, workers(),
                  stop());
    check_space(make_layout(), manifest_);
    job_.pause_point("restore.after_checks");
    enter(proto::RESTORE_PHASE_FILL);
  }

  /// A place may be given to a tablespace that only the WAL knows of, which costs reading that WAL
  /// once more.
  void find_replayed_tablespaces() {
    if (!maps_beyond(manifest_, spec_)) return;
    report_phase("reading WAL");
    note_mapped(read_tablespaces(target(), manifest_, *store_, stop()), manifest_, spec_,
                checkpoint_);
  }

  void prepare_in_place() {
    require_replaceable(*services_.instance, stop());
    check_external_config(manifest_);
    const Time now = services_.clock->now();
    plan_in_place(services_.instance->data_directory(), job_.id(), now, checkpoint_);
    plan_tablespaces_in_place(make_layout(), now, checkpoint_);
    checkpoint_.set_highest_timeline(timeline_of_directory(checkpoint_.moves(0).live()));
  }

  void prepare_elsewhere() {
    if (!spec_.data_directory().starts_with('/')) {
      throw Error(
          sqlstate::kInvalidParameterValue,
          fmt::format("data_directory \"{}\" is not an absolute path", spec_.data_directory()));
    }
    checkpoint_.set_root(follow_links(spec_.data_directory()));
    const Layout layout = make_layout();
    check_elsewhere({.spec = spec_,
                     .manifest = manifest_,
                     .layout = layout,
                     .live_directory = services_.instance->data_directory(),
                     .job = job_.id(),
                     .is_unfinished = services_.is_unfinished,
                     .files = files_},
                    checkpoint_);
  }

  void claim(const Layout& layout) {
    // Nobody knows whether what the other job wrote has reached the disk.
    if (has_foreign_marker(layout, job_.id(), files_)) distrust_content();
    claim_directories(layout,
                      {.job = job_.id(),
                       .is_unfinished = services_.is_unfinished,
                       .take_over = spec_.delta(),
                       .again = checkpoint_.claimed()},
                      files_);
    checkpoint_.set_claimed(true);
    save(job_, checkpoint_);
  }

  /// What a frame's checksum says of pages in memory is no proof of what the disk has.
  void distrust_content() {
    checkpoint_.set_distrust_content(true);
    save(job_, checkpoint_);
  }

  void make_durable(Durability& durability) {
    report_phase("writing to disk");
    try {
      durability.sync(files_, workers(), stop());
    } catch (const Error&) {
      distrust_content();
      throw;
    }
    checkpoint_.set_distrust_content(false);
    save(job_, checkpoint_);
  }

  void fill() {
    const Layout layout = make_layout();
    claim(layout);
    Durability durability(layout);
    remove_other_files(layout, files_, stop());
    const std::vector<bool> may_hold_content = create_files(layout, files_, workers(), stop());
    job_.pause_point("restore.after_create");

    const Bytes control = fill_files({.chain = chain_,
                                      .layout = layout,
                                      .may_hold_content = may_hold_content,
                                      .trust_content = !checkpoint_.distrust_content(),
                                      .store = *store_,
                                      .files = files_,
                                      .workers = workers(),
                                      .wal_end = target() != nullptr ? target()->end() : 0,
                                      .max_rate = spec_.max_rate(),
                                      .progress = [this](std::uint64_t bytes) { report(bytes); },
                                      .before_pack = [this] { job_.pause_point("restore.copy"); }},
                                     stop());
    job_.pause_point("restore.after_copy");
    report_phase("checking WAL");
    const auto wal = check_wal(target(), manifest_, layout, *store_, stop());
    settle_tablespaces(wal.tablespaces, {.layout = layout,
                                         .manifest = manifest_,
                                         .spec = spec_,
                                         .job = job_.id(),
                                         .now = services_.clock->now(),
                                         .wal = wal.files,
                                         .files = files_,
                                         .checkpoint = checkpoint_,
                                         .save = [this] { save(job_, checkpoint_); }});
    write_recovery_files(
        manifest_, target(), layout,
        highest_timeline(*store_, manifest_, checkpoint_.highest_timeline(), stop()), *store_,
        files_, stop());
    job_.pause_point("restore.after_recovery_files");
    make_durable(durability);
    job_.pause_point("restore.after_sync");
    require_claimed(layout, job_.id(), files_);
    write_control_file(layout, control, files_);
    job_.pause_point("restore.after_control");
    tell_about(layout);
    if (in_place()) {
      enter(proto::RESTORE_PHASE_READY);
    } else {
      enter(proto::RESTORE_PHASE_COMPLETE);
    }
  }

  void tell_about(const Layout& layout) {
    job_.set_result_rows(restored_rows());
    job_.set_result_bytes(static_cast<std::int64_t>(manifest_.plain_bytes()));
    for (const Manifest& layer : chain_) {
      if (layer.corrupt_pages_size() == 0) continue;
      job_.notice(
          &layer == &chain_.back()
              ? fmt::format("the backup recorded {} corrupt pages, which are restored as they were",
                            layer.corrupt_pages_size())
              : fmt::format("layer \"{}\" recorded {} corrupt pages; those that no later "
                            "layer replaced are restored as they were",
                            layer.subdirectory(), layer.corrupt_pages_size()));
    }
    std::vector<std::string> absent;
    bool external = false;
    for (const auto& file : manifest_.files()) {
      if (file.kind() != collection::proto::FILE_KIND_EXTERNAL_CONFIG) continue;
      external = true;
      if (!path_exists(file.path())) absent.push_back(file.path());
    }
    if (!external) return;
    const std::string place = in_place() ? checkpoint_.moves(0).live() : std::string(layout.root);
    job_.notice(fmt::format(
        "configuration files from outside the data directory are in \"{}/{}\"{}", place,
        kExternalConfigDirectory,
        in_place() ? "; those of this host were left as they are"
                   : "; start the server with -c config_file pointing at the one to use"));
    if (in_place() && !absent.empty()) {
      job_.notice(fmt::format("missing on this host: {}", fmt::join(absent, ", ")));
    }
  }

  std::int64_t restored_rows() const {
    std::int64_t rows = 0;
    for (const auto& object : manifest_.objects()) {
      if (object.type() == "table" && object.rows() > 0) rows += object.rows();
    }
    return rows;
  }

  /// Every step can be repeated: it looks at what is there. Once the server was asked to stop, a
  /// pause waits until one runs again.
  void switch_over() {
    TargetInstance& instance = *services_.instance;
    if (checkpoint_.phase() == proto::RESTORE_PHASE_READY) {
      require_replaceable(instance, stop());
      require_replaceable_tablespaces(checkpoint_);
      job_.pause_point("restore.before_stop");
      stop().check();
      checkpoint_.set_server_was_running(instance.running());
      enter(proto::RESTORE_PHASE_STOPPING);
    }
    if (checkpoint_.phase() == proto::RESTORE_PHASE_STOPPING) {
      report_phase("replacing the data directory");
      instance.stop(Stop::never());
      job_.pause_point("restore.after_stop");
      enter(proto::RESTORE_PHASE_MOVING_ASIDE);
    }
    if (checkpoint_.phase() == proto::RESTORE_PHASE_MOVING_ASIDE) {
      for (const auto& move : checkpoint_.moves()) move_aside(files_, move);
      job_.pause_point("restore.after_move_aside");
      enter(proto::RESTORE_PHASE_MOVING_IN);
    }
    if (checkpoint_.phase() == proto::RESTORE_PHASE_MOVING_IN) {
      // The data directory last: it is what a server could be started on.
      for (int i = checkpoint_.moves_size() - 1; i >= 0; --i) {
        move_in(files_, checkpoint_.moves(i));
      }
      job_.pause_point("restore.after_move_in");
      enter(proto::RESTORE_PHASE_STARTING);
    }
    if (checkpoint_.phase() == proto::RESTORE_PHASE_STARTING) {
      report_phase("starting PostgreSQL");
      start_or_fail([&] { instance.start(Stop::never()); });
      job_.pause_point("restore.after_start");
      start_or_fail([&] {
        login_refused_ = instance.wait_ready(services_.start_timeout, stop());
        if (target() != nullptr) require_recovered_to(*target(), instance.data_directory());
      });
      job_.pause_point("restore.after_ready");
      if (login_refused_) {
        job_.notice(
            fmt::format("PostgreSQL has recovered and runs on the restored data directory, but "
                        "holdfast cannot log in to it: {}; see --pg-url and the restored "
                        "pg_hba.conf",
                        *login_refused_));
      }
      enter(proto::RESTORE_PHASE_COMPLETE);
    }
  }

  /// What a revert will do about a server that does not start, told before it does it.
  void start_or_fail(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      const std::string aside = describe_aside(checkpoint_);
      std::string detail = error.detail();
      if (!detail.empty() && !detail.ends_with('\n')) detail += '\n';
      detail += aside.empty() ? "There was no previous data directory."
                              : fmt::format(
                                    "The previous data directory ({}) is put back in its "
                                    "place.",
                                    aside);
      detail += fmt::format(" The restored one is kept as \"{}\".", checkpoint_.moves(0).failed());
      throw Error(error.state(),
                  fmt::format("PostgreSQL did not start on the restored data directory: {}",
                              error.message()))
          .detail(detail)
          .hint(error.hint());
    }
  }

  void finish_in_place() {
    const proto::RestoreMove& move = checkpoint_.moves(0);
    remove_recovery_settings(move.live(), files_);
    if (const std::string aside = describe_aside(checkpoint_); !aside.empty()) {
      job_.notice(fmt::format("what was there before is kept: {}", aside));
    }
    remove_marker(files_, move.live(), job_.id());
    clear_directories(checkpoint_, job_.id(), files_);
  }

  void finish_elsewhere() {
    release_directories(checkpoint_.root(), job_.id(), files_);
    job_.notice(
        fmt::format("the cluster is laid out in \"{}\"; PostgreSQL recovers it to {} when it is "
                    "started there",
                    checkpoint_.root(),
                    target() == nullptr ? std::string("the end of the backup")
                                        : to_string(postgres::Lsn{target()->end()})));
  }

  void report(std::uint64_t bytes) {
    const std::uint64_t done = done_ += bytes;
    job_.report({.bytes_done = done, .bytes_total = total_, .phase = "copying files"});
  }

  void report_phase(std::string phase) {
    job_.report({.bytes_done = done_, .bytes_total = total_, .phase = std::move(phase)});
  }

  const RestoreServices& services_;
  jobs::JobContext& job_;
  io::FileSystem& files_;
  RestoreJobSpec spec_;
  RestoreCheckpoint checkpoint_;
  std::unique_ptr<storage::ObjectStore> store_;
  std::vector<Manifest> chain_;
  Manifest manifest_;  // of the layer that is restored: the chain's last
  std::optional<std::string> login_refused_;
  std::uint64_t total_ = 0;
  std::atomic<std::uint64_t> done_ = 0;
};

/// One run of revert().
class Reversal {
 public:
  Reversal(const RestoreServices& services, jobs::JobContext& job)
      : services_(services),
        job_(job),
        files_(*services.files),
        checkpoint_(read_cluster_checkpoint(job)) {}

  void run() {
    const auto phase = checkpoint_.phase();
    if (phase == proto::RESTORE_PHASE_UNSPECIFIED) return;
    if (phase == proto::RESTORE_PHASE_COMPLETE) {
      job_.notice("the restore was complete already; what it restored stays in place");
      ClusterAttempt(services_, job_).finish();
      return;
    }
    if (phase >= proto::RESTORE_PHASE_STOPPING) put_back_instance();
    clear_directories(checkpoint_, job_.id(), files_);
    if (path_exists(checkpoint_.root()) && !made(checkpoint_.root())) {
      job_.notice(
          fmt::format("directory \"{}\" is incomplete; RESTORE with option delta goes on "
                      "with it",
                      checkpoint_.root()));
    }
  }

 private:
  void step(std::uint32_t next) {
    checkpoint_.set_revert_step(next);
    save(job_, checkpoint_);
  }

  bool made(const std::string& path) const {
    for (const auto& one : checkpoint_.made()) {
      if (one.path() == path) return true;
    }
    return false;
  }

  /// Users may have written to it since, whether or not holdfast saw the server answer: it is kept.
  bool was_started() const { return checkpoint_.phase() >= proto::RESTORE_PHASE_STARTING; }

  void put_back_instance() {
    TargetInstance& instance = *services_.instance;
    const auto phase = checkpoint_.phase();
    if (phase >= proto::RESTORE_PHASE_MOVING_ASIDE && checkpoint_.revert_step() == 0) {
      instance.stop(Stop::never());
      if (phase >= proto::RESTORE_PHASE_MOVING_IN) {
        for (const auto& move : checkpoint_.moves()) {
          take_out(files_, move, was_started() ? move.failed() : move.staged());
        }
        // What is kept is nobody's to clear or to go on with.
        remove_marker(files_, checkpoint_.moves(0).failed(), job_.id());
      }
      step(1);
    }
    if (phase >= proto::RESTORE_PHASE_MOVING_ASIDE && checkpoint_.revert_step() == 1) {
      for (int i = checkpoint_.moves_size() - 1; i >= 0; --i) {
        put_back(files_, checkpoint_.moves(i));
      }
      step(2);
    }
    if (const std::string& kept = checkpoint_.moves(0).failed(); path_exists(kept)) {
      job_.notice(fmt::format(
          "the restored cluster, on which a server was started, is kept: \"{}\"", kept));
    }
    if (checkpoint_.server_was_running()) {
      instance.start(Stop::never());
      instance.wait_ready(services_.start_timeout, job_.stop());
    }
  }

  const RestoreServices& services_;
  jobs::JobContext& job_;
  io::FileSystem& files_;
  RestoreCheckpoint checkpoint_;
};

}  // namespace

void RestoreJob::resume(jobs::JobContext& job) { ClusterAttempt(services_, job).run(); }

void RestoreJob::revert(jobs::JobContext& job) { Reversal(services_, job).run(); }

}  // namespace holdfast::restore
