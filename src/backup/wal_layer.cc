#include "backup/wal_layer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "backup/backup_run_internal.h"
#include "backup/base_layer.h"
#include "backup/whole_segments.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/chain.h"
#include "collection/changes.h"
#include "collection/collection.h"
#include "collection/commit_search.h"
#include "collection/encryption.h"
#include "collection/recovery_target.h"
#include "collection/scope.h"
#include "collection/wal_archive.h"
#include "postgres/connection.h"
#include "postgres/control_file.h"
#include "postgres/versions.h"
#include "postgres/wal_position.h"

namespace holdfast::backup {

namespace {

namespace manifest = collection::proto;
using postgres::Lsn;

/// Source: PostgreSQL src/include/access/transam.h (FirstNormalObjectId): below are those that
/// every cluster has.
constexpr std::string_view kMadeTablespaces =
    "SELECT oid::text, spcname FROM pg_catalog.pg_tablespace WHERE oid >= 16384";

class WalLayerRun {
 public:
  WalLayerRun(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
              jobs::JobContext& job)
      : environment_(environment),
        spec_(spec),
        job_(job),
        stop_(job.stop()),
        keys_(collection::parse_keys(spec.keys())),
        store_(collection::with_keys(open_collection(environment, spec), keys_)) {}

  bool already_written() {
    auto written = collection::read_manifest(*store_, spec_.subdirectory(), stop_);
    // Another job's manifest is take_lock()'s to complain about.
    if (!written || written->job_id() != job_.id()) return false;
    layer_ = std::move(*written);
    return true;
  }

  void take_lock() {
    enter("taking the lock");
    take_layer_lock(environment_, spec_, job_.id(), *store_, stop_);
  }

  void begin_history() {
    if (!spec_.revision_history()) return;
    enter("waiting for the WAL archive");
    keep_history(environment_, spec_, job_, *store_);
  }

  void describe() {
    auto base = collection::read_manifest(*store_, past().layer(), stop_);
    if (!base) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("backup \"{}\" does not exist any more", past().layer()));
    }
    collection::require_scope_in(*base, spec_.scope());
    layer_ = *base;
    layer_.set_holdfast_version(environment_.holdfast_version);
    layer_.set_backup_uuid(std::string(as_text(new_uuid())));
    layer_.set_job_id(job_.id());
    layer_.set_type(manifest::BACKUP_TYPE_INCREMENTAL);
    layer_.set_subdirectory(spec_.subdirectory());
    layer_.set_full(spec_.full());
    refer_to(*base, *layer_.mutable_base());
    layer_.set_start_time_us(microseconds(environment_.clock->now()));
    layer_.set_end_time_us(past().time_us());
    layer_.set_next_file_id(collection::next_file_id(*base));
    layer_.clear_packs();
    layer_.set_stored_bytes(0);
    layer_.set_read_bytes(0);
    layer_.set_change_source(manifest::CHANGE_SOURCE_WAL);
    layer_.set_revision_history(spec_.revision_history());
    base_stop_ = base->stop();
    if (past().timeline() == 0) return;

    auto path = collection::get_timeline_path(*store_, layer_.instance().system_identifier(),
                                              past().timeline(), stop_);
    if (!path) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("the history of timeline {} is not in the archive any more",
                              past().timeline()));
    }
    path_ = std::move(path);
    const collection::RecoveryTarget target{
        .timeline = past().timeline(), .record = Lsn{past().record()}, .end = Lsn{past().end()}};
    collection::extend_wal(layer_, *path_, target.end);
    layer_.mutable_stop()->set_timeline(path_->of_position(target.record));
    layer_.mutable_stop()->set_position(target.end.value);
    *layer_.mutable_recovery_target() = collection::to_proto(target);
  }

  /// The server goes on from the moment, or the chain would be one that it cannot continue.
  void require_own_history() {
    enter("connecting to PostgreSQL");
    const auto control = postgres::read_control_file(environment_.data_directory);
    require_same_cluster(layer_, control);
    connection_ = postgres::Connection::open({.conninfo = environment_.conninfo(),
                                              .database = std::nullopt,
                                              .timeout = std::chrono::seconds(10)},
                                             stop_);
    const auto position = postgres::wal_position(*connection_, "", stop_);
    if (!position) return;  // a standby that nobody feeds knows nothing newer
    const auto path = read_timeline_path(*store_, environment_.data_directory,
                                         control.system_identifier, position->timeline, stop_);
    if (path.contains(layer_.stop().timeline(), Lsn{layer_.stop().position()})) return;
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("the moment is not in the history of timeline {}", position->timeline))
        .detail(fmt::format("It is {} on timeline {}, which this server has left: it was restored "
                            "to an earlier moment, or promoted before. The chain could not be "
                            "continued.",
                            to_string(Lsn{layer_.stop().position()}), layer_.stop().timeline()))
        .hint("RESTORE … AS OF SYSTEM TIME brings that moment back from the chain as it is.");
  }

  /// What an ordinary layer can map to other directories, replay of WAL makes where it was.
  void tell_of_tablespaces() {
    const auto there = connection_->query(std::string(kMadeTablespaces), stop_);
    for (std::size_t row = 0; row < there.rows(); ++row) {
      const bool known = std::ranges::any_of(layer_.tablespaces(), [&](const auto& one) {
        return std::to_string(one.oid()) == there.text(row, 0);
      });
      if (known) continue;
      job_.notice(fmt::format(
          "tablespace \"{}\" was made after the layer \"{}\": if that was before the moment, a "
          "restore of this layer makes it in its original directory, or where tablespace_mapping "
          "says, and refuses where another server has it",
          there.text(row, 1), past().layer()));
    }
  }

  void complete_last_segment() {
    if (!path_) return;
    enter("waiting for the last WAL segment");
    wait_for_whole_segment({.environment = environment_,
                            .collection_uri = spec_.collection_uri(),
                            .store = *store_,
                            .connection = *connection_,
                            .job = job_},
                           collection::wal_segment_of(layer_, *layer_.wal().rbegin()));
  }

  void check_wal() {
    if (!path_) return;
    enter("checking WAL");
    find_segments(*store_, layer_, stop_);
    const Lsn from{base_stop_.position()};
    const Lsn end{past().end()};
    const auto& instance = layer_.instance();
    const int major = postgres::major_of(static_cast<int>(instance.server_version_num()));
    // Each segment's map was made of its records, so that maps which follow one another stand for
    // WAL that can be read through.
    const auto changes =
        collection::changes_between(*store_,
                                    {.system_identifier = instance.system_identifier(),
                                     .major = major,
                                     .wal_segment_bytes = instance.wal_segment_bytes(),
                                     .path = *path_,
                                     .from_timeline = base_stop_.timeline(),
                                     .from = from,
                                     .to = end},
                                    stop_);
    if (!changes.map) {
      throw Error(sqlstate::kObjectNotInPrerequisiteState,
                  "the WAL behind the previous backup does not lead to the moment")
          .detail(fmt::format("Since \"{}\": {}.", past().layer(), changes.reason))
          .hint("Start a new chain with BACKUP INTO.");
    }
    const collection::WalStretch stretch{.wal = {.system_identifier = instance.system_identifier(),
                                                 .wal_segment_bytes = instance.wal_segment_bytes(),
                                                 .path = *path_},
                                         .major = major,
                                         .begin = from,
                                         .end = end};
    const auto place = collection::CommitSearch(*store_, stretch, stop_).before(end);
    if (from == end || place.record == Lsn{past().record()}) return;
    throw Error(sqlstate::kDataCorrupted, fmt::format("the WAL does not lead to the record at {}",
                                                      to_string(Lsn{past().record()})));
  }

  void tell_of_objects() {
    if (!path_) return;
    job_.notice(
        fmt::format("SHOW BACKUP lists for this layer the objects of \"{}\", the layer before it: "
                    "what WAL has made or dropped since shows in a restore only",
                    past().layer()));
  }

  void write_manifest() {
    enter("writing the manifest");
    collection::require_key_stored(*store_, keys_, stop_);
    collection::require_lock(*store_, spec_.subdirectory(), job_.id(), stop_);
    collection::write_manifest(*store_, spec_.subdirectory(), layer_, stop_);
  }

  /// The WAL that the layer consists of is the archive's, as it was put.
  void tell_of_lock() {
    if (!spec_.revision_history()) notice_other_lock(environment_, spec_, job_);
  }

  void clean_up() {
    collection::release_lock(*store_, spec_.subdirectory(), job_.id(), stop_);
    std::int64_t rows = 0;
    for (const auto& object : layer_.objects()) rows += std::max<std::int64_t>(object.rows(), 0);
    job_.set_result_rows(rows);
    job_.set_result_bytes(0);
    log::info("WAL-only layer \"{}\" on \"{}\" finished, stop={} wal_segments={}",
              spec_.subdirectory(), layer_.base().directory(),
              to_string(Lsn{layer_.stop().position()}), layer_.wal_size());
  }

 private:
  const proto::PastMoment& past() const { return spec_.as_of(); }

  void enter(std::string phase) { job_.report({.phase = std::move(phase)}); }

  const BackupEnvironment& environment_;
  const proto::BackupJobSpec& spec_;
  jobs::JobContext& job_;
  const Stop& stop_;
  const collection::CollectionKeys keys_;
  const std::unique_ptr<storage::ObjectStore> store_;
  manifest::Manifest layer_;
  manifest::Lsn base_stop_;
  /// Absent when nothing happened between the base's end and the moment.
  std::optional<postgres::TimelinePath> path_;
  std::optional<postgres::Connection> connection_;
};

}  // namespace

void take_wal_layer(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                    jobs::JobContext& job) {
  WalLayerRun run(environment, spec, job);
  if (!run.already_written()) {
    run.take_lock();
    job.pause_point("backup.after_lock");
    run.begin_history();
    run.describe();
    run.require_own_history();
    run.tell_of_tablespaces();
    run.complete_last_segment();
    job.pause_point("backup.after_wal");
    run.check_wal();
    run.tell_of_objects();
    job.pause_point("backup.before_manifest");
    run.write_manifest();
    job.pause_point("backup.after_manifest");
  }
  run.tell_of_lock();
  run.clean_up();
}

}  // namespace holdfast::backup
