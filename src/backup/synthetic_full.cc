#include "backup/synthetic_full.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backup/backup_run.h"
#include "backup/backup_run_internal.h"
#include "backup/copied_databases.h"
#include "backup/past_cluster.h"
#include "backup/plan.h"
#include "backup/sign_of_life.h"
#include "backup/wal_archives.h"
#include "backup/whole_segments.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/deletion_marks.h"
#include "collection/encryption.h"
#include "collection/object_lock.h"
#include "collection/wal_archive.h"
#include "collection/wal_archive_input.h"
#include "io/file.h"
#include "postgres/catalog.h"
#include "postgres/control_file.h"
#include "postgres/versions.h"

namespace holdfast::backup {

namespace {

namespace manifest = collection::proto;
using postgres::Lsn;

class SyntheticFullRun final : private CopyObserver {
 public:
  SyntheticFullRun(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                   jobs::JobContext& job)
      : environment_(environment),
        spec_(spec),
        job_(job),
        stop_(job.stop()),
        store_(open(spec.keys())),
        source_(open(spec.source_keys())),
        throttle_(spec.max_rate()),
        life_(*store_, spec.subdirectory(), job.id(), *environment.clock, stop_) {
    if (!spec.as_of().timeline()) return;
    target_ = collection::RecoveryTarget{.timeline = spec.as_of().timeline(),
                                         .record = Lsn{spec.as_of().record()},
                                         .end = Lsn{spec.as_of().end()}};
  }

  bool already_written() {
    auto written = collection::read_manifest(*store_, spec_.subdirectory(), stop_);
    // Another job's manifest is take_lock()'s to complain about.
    if (!written || written->job_id() != job_.id()) return false;
    layer_ = std::move(*written);
    return true;
  }

  void take_lock() {
    enter("taking the lock");
    collection::take_lock(*store_, spec_.subdirectory(), job_.id(), stop_);
    const auto incremental = collection::parse_incremental_directory(past().layer());
    collection::require_not_deleted(*source_, incremental ? incremental->full : past().layer(),
                                    stop_);
    // Before the lock the directory was nobody's, and looked as old as its moment.
    require_key();
    life_.begin();
  }

  /// Its packs are of files that are gone; their numbers are not given again, because they may be
  /// in storage that keeps everything.
  void forget_earlier_attempt() {
    environment_.past->remove(job_.id());
    std::vector<storage::ObjectKey> packs;
    store_->list(
        data_prefix(spec_.subdirectory()),
        [&](const storage::ObjectInfo& object) {
          const auto last = pack_number(object.key).value_or(0);
          copy_.next_pack = std::max(copy_.next_pack.load(), last + 1);
          packs.push_back(object.key);
        },
        stop_);
    for (const auto& key : packs) storage::remove_if_allowed(*store_, key, stop_);
  }

  void begin_history() {
    if (!spec_.revision_history()) return;
    enter("waiting for the WAL archive");
    keep_history(environment_, spec_, job_, *store_);
  }

  void find_wal() {
    const auto source = collection::read_manifest(*source_, past().layer(), stop_);
    if (!source) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("backup \"{}\" does not exist any more", past().layer()));
    }
    const auto& instance = source->instance();
    // Of a layer without WAL behind it all segments are whole.
    if (!target_) {
      path_ = postgres::TimelinePath(source->stop().timeline(), {});
      return;
    }
    path_ = collection::get_timeline_path(*source_, instance.system_identifier(), target_->timeline,
                                          stop_);
    if (!path_) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("the history of timeline {} is not in the archive any more",
                              target_->timeline));
    }
    const std::uint64_t bytes = instance.wal_segment_bytes();
    const std::uint64_t last = segment_of(Lsn{target_->end.value - 1}, bytes);
    const collection::WalSegmentId id{.system_identifier = instance.system_identifier(),
                                      .timeline = path_->of_segment(last, bytes),
                                      .segment = last,
                                      .segment_bytes = bytes};
    if (collection::stat_wal_segment(*source_, id, stop_)) return;
    enter("waiting for the last WAL segment");
    auto connection = postgres::Connection::open({.conninfo = environment_.conninfo(),
                                                  .database = std::nullopt,
                                                  .timeout = std::chrono::seconds(10)},
                                                 stop_);
    wait_for_whole_segment({.environment = environment_,
                            .collection_uri = spec_.collection_uri(),
                            .store = *source_,
                            .connection = connection,
                            .job = job_},
                           id);
  }

  void recover() {
    cluster_ = environment_.past->recover(
        {.job = job_.id(),
         .store = *source_,
         .layer = past().layer(),
         .target = target_,
         .workers = workers(),
         .report = [this](std::string phase) { enter(std::move(phase)); }},
        stop_);
    content_of_control_ =
        io::read_whole(io::FileSystem::real(), control_path(), postgres::kControlFileBytes)
            .value_or(Bytes());
    control_ = postgres::parse_control_file(content_of_control_, control_path());
    require_stopped_in_recovery();
  }

  void describe() {
    const auto& origin = cluster_->origin();
    uuid_ = new_uuid();
    layer_.set_holdfast_version(environment_.holdfast_version);
    layer_.set_backup_uuid(uuid_.data(), uuid_.size());
    layer_.set_job_id(job_.id());
    layer_.set_type(manifest::BACKUP_TYPE_FULL);
    layer_.set_scope(manifest::SCOPE_CLUSTER);
    layer_.set_subdirectory(spec_.subdirectory());
    layer_.set_compression(compression_of(spec_).print());
    layer_.set_revision_history(spec_.revision_history());
    *layer_.mutable_instance() = origin.instance();
    layer_.set_start_time_us(microseconds(environment_.clock->now()));
    layer_.set_end_time_us(past().time_us());
    layer_.mutable_start()->set_timeline(control_.timeline);
    layer_.mutable_start()->set_position(control_.redo.value);
    describe_end();
    const std::uint64_t first = segment_of(control_.redo, instance().wal_segment_bytes());
    for (const auto& segment : origin.wal()) {
      if (segment.segment() >= first) *layer_.add_wal() = segment;
    }
    layer_.set_backup_label(label_of_stopped(
        layer_, control_.checkpoint,
        spec_.label().empty() ? fmt::format("holdfast job {}", job_.id()) : spec_.label()));
  }

  void plan() {
    enter("listing files");
    PlanRequest request{.data_directory = cluster_->data_directory(),
                        .tablespace_version_directory = version_directory(),
                        .outside_files = {},
                        .outside_root = cluster_->outside_directory()};
    for (const auto& file : cluster_->origin().files()) {
      if (file.kind() != manifest::FILE_KIND_EXTERNAL_CONFIG) continue;
      request.outside_files.emplace_back(file.path());
    }
    Plan plan = make_plan(request, stop_);
    add_tablespaces(plan);
    copy_.files = std::move(plan.files);
    copy_.files.number(nullptr);
    copy_.done.assign(copy_.files.total_frames(), false);
    for (std::size_t i = 0; i < copy_.files.size(); ++i) {
      if (copy_.files.kind(i) != manifest::FILE_KIND_CONTROL) continue;
      control_position_ = i;
      copy_.done[copy_.files[i].first_frame] = true;
    }
    bytes_total_ = bytes_to_copy(copy_);
    log::info("planned {} files, bytes={}", copy_.files.size(), bytes_total_);
  }

  void copy_files() {
    enter("copying files");
    copy_frames(
        {.place = place(),
         .data_directory = cluster_->data_directory(),
         .outside_root = cluster_->outside_directory(),
         .checksums = control_.has_page_checksums() ? PageChecksums::On : PageChecksums::Off,
         .compression = compression_of(spec_),
         .workers = workers(),
         .throttle = throttle_},
        copy_, *this, stop_);
    if (copy_.changes.any_file_changed()) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("files of \"{}\" changed while they were backed up",
                              cluster_->data_directory().string()))
          .hint("Nothing but holdfast may write below its --store.");
    }
    store_control_file(place(), compression_of(spec_), control_position_, content_of_control_,
                       copy_, stop_);
    copy_.ledger.drop_useless();
  }

  /// Also the proof that a restore finds the moment.
  void list_catalog() {
    enter("recovering the copy");
    connect_ = cluster_->start(layer_, stop_);
    enter("listing the catalog");
    const auto listing = postgres::list_catalog(*connect_, stop_);
    for (const auto& entry : listing.entries) *layer_.add_objects() = to_proto(entry);
    for (const auto& unlisted : listing.unlisted) {
      log::info("the tables of database \"{}\" are not listed: {}", unlisted.database,
                unlisted.reason);
    }
  }

  void examine_wal() {
    enter("examining WAL");
    const postgres::WalRange range{.reader = {.major = control_.major,
                                              .wal_segment_bytes = instance().wal_segment_bytes(),
                                              .start = control_.redo,
                                              .system_identifier = instance().system_identifier()},
                                   .end = Lsn{layer_.stop().position()}};
    const auto input =
        collection::archive_input(*source_,
                                  {.system_identifier = instance().system_identifier(),
                                   .wal_segment_bytes = instance().wal_segment_bytes(),
                                   .path = *path_},
                                  stop_, range.end);
    require_sound_copies(range, input);
    judge_suspects({.pages = copy_.changes.suspects(),
                    .range = range,
                    .input = input,
                    .tablespace_version_directory = version_directory(),
                    .connect = [this] { return *connect_; },
                    .allow_corrupt = spec_.allow_corrupt_pages()},
                   job_, layer_);
  }

  void write_manifest() {
    enter("writing the manifest");
    cluster_.reset();
    find_segments(*store_, layer_, stop_);
    describe_copy(copy_, layer_);
    require_key();
    collection::require_lock(*store_, spec_.subdirectory(), job_.id(), stop_);
    collection::write_manifest(*store_, spec_.subdirectory(), layer_, stop_);
  }

  /// The WAL behind the moment is in the archive that the moment was found in, and stays protected
  /// as long as that goes on.
  void protect_wal() {
    if (!spec_.revision_history()) notice_other_lock(environment_, spec_, job_);
    if (spec_.unprotected() || environment_.archives == nullptr ||
        environment_.archives->find(spec_.collection_uri())) {
      return;
    }
    job_.notice(
        "the WAL after this backup is not protected, because the collection's WAL archive has "
        "ended: the next incremental may have to read every page");
  }

  void move_latest() { point_latest_at(*store_, layer_, environment_.clock->now(), stop_); }

  void clean_up() {
    life_.end();
    collection::release_lock(*store_, spec_.subdirectory(), job_.id(), stop_);
    std::int64_t rows = 0;
    for (const auto& object : layer_.objects()) rows += std::max<std::int64_t>(object.rows(), 0);
    job_.set_result_rows(rows);
    job_.set_result_bytes(static_cast<std::int64_t>(layer_.stored_bytes()));
    log::info("synthetic full \"{}\" out of \"{}\" finished, stop={} bytes={} stored_bytes={}",
              spec_.subdirectory(), past().layer(), to_string(Lsn{layer_.stop().position()}),
              layer_.plain_bytes(), layer_.stored_bytes());
  }

 private:
  void require_key() {
    collection::require_key_stored(*store_, collection::parse_keys(spec_.keys()), stop_);
  }

  const proto::PastMoment& past() const { return spec_.as_of(); }
  const manifest::Instance& instance() const { return layer_.instance(); }

  std::unique_ptr<storage::ObjectStore> open(std::string_view keys) const {
    return collection::with_keys(open_collection(environment_, spec_),
                                 collection::parse_keys(keys));
  }

  std::string control_path() const {
    return (cluster_->data_directory() / postgres::kControlFilePath).string();
  }

  std::string version_directory() const {
    return postgres::tablespace_version_directory(control_.major, control_.catalog_version);
  }

  LayerPlace place() const {
    return {.store = *store_, .directory = spec_.subdirectory(), .uuid = uuid_};
  }

  std::size_t workers() const {
    const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
    return spec_.workers() != 0 ? spec_.workers() : std::min<std::size_t>(cores, kMaxWorkers);
  }

  void enter(std::string phase) {
    phase_ = std::move(phase);
    report();
    life_.renew();
  }

  void report() {
    job_.report({.bytes_done = bytes_done_.load(), .bytes_total = bytes_total_, .phase = phase_});
  }

  void frame_done(std::uint64_t bytes) override {
    bytes_done_ += bytes;
    report();
  }
  void pack_stored() override {
    job_.pause_point("backup.copy");
    life_.renew();
  }

  /// What was promoted, or crashed, would be another history or no state at all.
  void require_stopped_in_recovery() const {
    const bool stopped = control_.state == postgres::ClusterState::ShutDownInRecovery;
    const bool before_end =
        !target_ || (control_.redo <= target_->record && control_.checkpoint <= target_->record &&
                     control_.min_recovery_point <= target_->end);
    if (stopped && before_end && control_.min_recovery_point.valid()) return;
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("the recovered cluster is not at the moment: it is {}",
                            to_string(control_.state)))
        .detail(fmt::format("Its last checkpoint is at {} with redo at {}, its minimum recovery "
                            "point {}, and the moment ends at {}.",
                            to_string(control_.checkpoint), to_string(control_.redo),
                            to_string(control_.min_recovery_point),
                            target_ ? to_string(target_->end) : "the layer's end"));
  }

  void describe_end() {
    auto& end = *layer_.mutable_stop();
    if (!target_) {
      end.set_timeline(cluster_->origin().stop().timeline());
      end.set_position(control_.min_recovery_point.value);
      return;
    }
    end.set_timeline(path_->of_position(target_->record));
    end.set_position(target_->end.value);
    // Replay begins behind a shutdown checkpoint, never with it, so that it could not be told to
    // end there. It is the end of the files as well then.
    if (control_.redo == target_->record) {
      if (control_.min_recovery_point == target_->end) return;
      throw Error(sqlstate::kDataCorrupted, "the recovered cluster went on behind the moment");
    }
    *layer_.mutable_recovery_target() = collection::to_proto(*target_);
  }

  /// With the places that they have in the origin. One that replay made is a directory here.
  void add_tablespaces(const Plan& plan) {
    const auto links = cluster_->data_directory() / "pg_tblspc";
    for (const auto& known : cluster_->origin().tablespaces()) {
      const auto there = std::filesystem::symlink_status(links / std::to_string(known.oid()));
      if (std::filesystem::exists(there)) *layer_.add_tablespaces() = known;
    }
    for (const auto& linked : plan.tablespaces) {
      const auto& listed = layer_.tablespaces();
      const auto found = std::ranges::find(listed, linked.oid(), &manifest::Tablespace::oid);
      if (found != listed.end()) continue;
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("where tablespace {} was is not known", linked.oid()));
    }
  }

  /// The files that replay would copy once more are those of the moment.
  void require_sound_copies(const postgres::WalRange& range,
                            const postgres::WalInput& input) const {
    const auto copied = find_unsound_copy(
        range, input, [](const auto&) { return false; }, [](std::uint32_t) { return true; }, stop_);
    if (!copied) return;
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("the files of database {} were being copied to database {} at the "
                            "moment",
                            copied->source.database, copied->target.database))
        .hint("Choose a moment some minutes later, or earlier.");
  }

  const BackupEnvironment& environment_;
  const proto::BackupJobSpec& spec_;
  jobs::JobContext& job_;
  const Stop& stop_;
  const std::unique_ptr<storage::ObjectStore> store_;   // with the keys of the new chain
  const std::unique_ptr<storage::ObjectStore> source_;  // with those of the chain it is made of
  io::Throttle throttle_;
  SignOfLife life_;
  std::optional<collection::RecoveryTarget> target_;
  std::optional<postgres::TimelinePath> path_;  // to the moment

  std::unique_ptr<PastCluster> cluster_;
  Bytes content_of_control_;
  postgres::ControlFile control_;
  collection::BackupUuid uuid_{};
  manifest::Manifest layer_;
  CopyState copy_;
  std::size_t control_position_ = 0;
  std::optional<postgres::ConnectOptions> connect_;

  std::string phase_;  // changes only while no worker runs
  std::atomic<std::uint64_t> bytes_done_{0};
  std::uint64_t bytes_total_ = 0;
};

}  // namespace

std::string label_of_stopped(const manifest::Manifest& layer, Lsn checkpoint,
                             const std::string& label) {
  const Lsn start{layer.start().position()};
  const std::uint64_t bytes = layer.instance().wal_segment_bytes();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(
      Time(std::chrono::microseconds(layer.start_time_us())));
  return fmt::format(
      "START WAL LOCATION: {} (file {})\n"
      "CHECKPOINT LOCATION: {}\n"
      "BACKUP METHOD: streamed\n"
      "BACKUP FROM: standby\n"
      "START TIME: {:%Y-%m-%d %H:%M:%S} UTC\n"
      "LABEL: {}\n"
      "START TIMELINE: {}\n",
      to_string(start),
      postgres::wal_segment_name(layer.start().timeline(), segment_of(start, bytes), bytes),
      to_string(checkpoint), fmt::gmtime(seconds), label, layer.start().timeline());
}

void take_synthetic_full(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                         jobs::JobContext& job) {
  if (environment.past == nullptr) {
    throw Error(sqlstate::kFeatureNotSupported,
                "BACKUP INTO … AS OF SYSTEM TIME is not supported here");
  }
  SyntheticFullRun run(environment, spec, job);
  if (!run.already_written()) {
    run.take_lock();
    job.pause_point("backup.after_lock");
    run.forget_earlier_attempt();
    run.begin_history();
    run.find_wal();
    job.pause_point("backup.after_wal");
    run.recover();
    job.pause_point("backup.after_recovery");
    run.describe();
    run.plan();
    job.pause_point("backup.after_plan");
    run.copy_files();
    job.pause_point("backup.after_copy");
    run.list_catalog();
    job.pause_point("backup.after_catalog");
    run.examine_wal();
    job.pause_point("backup.after_verify");
    job.pause_point("backup.before_manifest");
    run.write_manifest();
    job.pause_point("backup.after_manifest");
  }
  run.protect_wal();
  run.move_latest();
  job.pause_point("backup.after_latest");
  run.clean_up();
}

}  // namespace holdfast::backup
