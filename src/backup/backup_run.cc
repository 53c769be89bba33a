#include "backup/backup_run.h"

#include <fmt/core.h>
#include <sys/random.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "backup/backup_run_internal.h"
#include "backup/base_layer.h"
#include "backup/changed_databases.h"
#include "backup/plan.h"
#include "backup/wal_archives.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/chain.h"
#include "collection/changes.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/scope.h"
#include "io/file.h"
#include "postgres/instance.h"

namespace holdfast::backup {

namespace {

namespace manifest = collection::proto;

proto::BackupJobCheckpoint parse_row(const std::optional<Bytes>& bytes) {
  proto::BackupJobCheckpoint row;
  if (bytes && !row.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) {
    throw Error(sqlstate::kInternalError, "the checkpoint of the backup job cannot be read");
  }
  return row;
}

manifest::Lsn proto_lsn(postgres::Lsn lsn, postgres::TimelineId timeline) {
  manifest::Lsn out;
  out.set_timeline(timeline);
  out.set_position(lsn.value);
  return out;
}

/// When the last transaction that a standby has replayed was committed, in microseconds since 1970;
/// 0 where it knows of none.
std::int64_t last_replayed_us(postgres::Connection& connection, const Stop& stop) {
  const auto time = connection.query(
      "SELECT COALESCE((1000000 * EXTRACT(epoch FROM "
      "pg_catalog.pg_last_xact_replay_timestamp()))::bigint, 0)",
      stop);
  return time.integer(0, 0);
}

/// Whether a manifest is gone, damaged, or of a later version.
bool is_unreadable(const Error& error) {
  return error.state() == sqlstate::kUndefinedFile || error.state() == sqlstate::kDataCorrupted ||
         error.state() == sqlstate::kFeatureNotSupported;
}

/// Whether an incremental layer of the full is a later state than `manifest`; those that cannot be
/// read are not.
bool reaches_later(storage::ObjectStore& store, const std::string& full,
                   const manifest::Manifest& manifest, const Stop& stop) {
  std::vector<std::string> layers = collection::list_layers(store, full, stop);
  std::ranges::reverse(layers);  // the last is nearly always the latest
  return std::ranges::any_of(layers, [&](const std::string& directory) {
    if (directory == full) return false;
    try {
      const auto layer = collection::read_manifest(store, directory, stop);
      return layer && collection::ends_later(*layer, manifest);
    } catch (const Error& error) {
      if (!is_unreadable(error)) throw;
      return false;
    }
  });
}

/// The same by names alone, of a chain whose key is not known. The name of a full is that of a
/// moment before its end, and so are those of layers.
bool named_later(storage::ObjectStore& store, const std::string& full,
                 const manifest::Manifest& manifest, const Stop& stop) {
  if (full > manifest.subdirectory()) return true;
  const Time end = time_from_us(manifest.end_time_us());
  return std::ranges::any_of(collection::list_layers(store, full, stop), [&](const auto& layer) {
    const auto incremental = collection::parse_incremental_directory(layer);
    return incremental && incremental->time > end;
  });
}

/// Whether the chain that LATEST names has a later state of the same cluster than `manifest`, or
/// LATEST has to go on naming a backup of the cluster, on which others build: one of some tables
/// does not take its place. What it names may be gone, or damaged.
bool latest_stays(storage::ObjectStore& store, const manifest::Manifest& manifest,
                  const Stop& stop) {
  std::string named;
  try {
    named = collection::resolve_latest(store, stop);
    const auto latest = collection::read_manifest(store, named, stop);
    if (!latest) return false;
    if (collection::is_scoped(*latest) != collection::is_scoped(manifest)) {
      return collection::is_scoped(manifest);
    }
    return collection::ends_later(*latest, manifest) || reaches_later(store, named, manifest, stop);
  } catch (const Error& error) {
    // Encrypted with another chain's key: only its names are known.
    if (error.state() == sqlstate::kInvalidParameterValue) {
      return collection::is_scoped(manifest) || named_later(store, named, manifest, stop);
    }
    if (is_unreadable(error)) return false;
    throw;
  }
}

}  // namespace

collection::Compression compression_of(const proto::BackupJobSpec& spec) {
  return spec.compression().empty() ? collection::Compression{}
                                    : collection::Compression::parse(spec.compression());
}

collection::BackupUuid new_uuid() {
  collection::BackupUuid uuid{};
  if (getrandom(uuid.data(), uuid.size(), 0) != static_cast<ssize_t>(uuid.size())) {
    throw_errno("get random bytes");
  }
  return uuid;
}

std::optional<std::uint32_t> pack_number(std::string_view key) {
  if (!key.ends_with(collection::kPackSuffix)) return std::nullopt;
  key.remove_suffix(collection::kPackSuffix.size());
  key.remove_prefix(key.rfind('/') + 1);
  std::uint32_t number = 0;
  const auto parsed = std::from_chars(key.data(), key.data() + key.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size()) return std::nullopt;
  return number;
}

std::int64_t microseconds(Time time) { return time.time_since_epoch().count(); }

std::string data_prefix(std::string_view directory) {
  return fmt::format("{}/{}", directory, collection::kDataDirectory);
}

void point_latest_at(storage::ObjectStore& store, const manifest::Manifest& manifest, Time now,
                     const Stop& stop) {
  if (latest_stays(store, manifest, stop)) {
    log::info("LATEST stays where it is: that backup is newer than \"{}\", or of the whole cluster",
              manifest.subdirectory());
    return;
  }
  collection::write_latest(store, manifest.subdirectory(), now, stop);
}

BackupRun::BackupRun(const BackupEnvironment& environment, proto::BackupJobSpec spec,
                     jobs::JobContext& job)
    : environment_(environment),
      job_(job),
      stop_(job.stop()),
      spec_(std::move(spec)),
      spool_(spool_of(environment, job.id())),
      keys_(collection::parse_keys(spec_.keys())),
      store_(collection::with_keys(open_collection(environment, spec_), keys_)),
      throttle_(spec_.max_rate()),
      row_(parse_row(job.checkpoint())) {}

BackupRun::~BackupRun() {
  wal_.reset();
  std::error_code ignored;  // removed again by the next attempt or by revert()
  std::filesystem::remove_all(spool_, ignored);
}

bool BackupRun::already_written() {
  auto written = collection::read_manifest(*store_, spec_.subdirectory(), stop_);
  // Another job's manifest is take_lock()'s to complain about.
  if (!written || written->job_id() != job_.id()) return false;
  manifest_ = std::move(*written);
  written_ = true;
  return true;
}

void BackupRun::take_lock() {
  enter("taking the lock");
  take_layer_lock(environment_, spec_, job_.id(), *store_, stop_);
  collection::require_key_stored(*store_, keys_, stop_);
}

void BackupRun::read_checkpoint() {
  if (!spec_.full().empty())
    base_ = read_base_layer(*store_, spec_.full(), spec_.subdirectory(), stop_);
  if (base_) collection::require_scope_in(*base_, spec_.scope());
  earlier_ = collection::read_checkpoint(*store_, spec_.subdirectory(), stop_);
  // Its files' ids go on from those of its own base.
  if (earlier_ && base_ && earlier_->base().backup_uuid() != base_->backup_uuid()) earlier_.reset();
  if (earlier_ && earlier_->backup_uuid().size() == uuid_.size()) {
    std::memcpy(uuid_.data(), earlier_->backup_uuid().data(), uuid_.size());
    log::info("going on with {} packs of an earlier attempt", earlier_->packs_size());
  } else {
    earlier_.reset();
    uuid_ = new_uuid();
  }
}

void BackupRun::connect() {
  enter("connecting to PostgreSQL");
  control_ = postgres::read_control_file(environment_.data_directory);
  // The session of the backup, too: it sits idle while files are copied, however long that takes.
  connection_ = postgres::Connection::open(connect_options(), stop_);
  auto& connection = *connection_;
  server_ = postgres::read_server_facts(connection, stop_);
  const auto missing =
      postgres::check_instance(connection, server_, environment_.data_directory, stop_);
  if (!missing.empty()) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState, missing.front().what)
        .hint(missing.front().remedy);
  }
  if (earlier_ && earlier_->instance().system_identifier() != control_.system_identifier) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "cannot resume backup started on another cluster")
        .hint("Cancel the job and take a new backup.");
  }
  if (base_) require_same_cluster(*base_, control_);
  if (keys_.wal && keys_.wal->system_identifier != control_.system_identifier) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "cannot resume encrypted backup started on another cluster")
        .hint("Cancel the job and take a new backup.");
  }
  if (environment_.archives != nullptr && !spec_.apart()) {
    environment_.archives->require_same_key(spec_.collection_uri(), keys_.wal);
  }
  if (has_scoped_history() &&
      connection.query("SELECT pg_catalog.pg_is_in_recovery()", stop_).boolean(0, 0)) {
    throw no_scoped_history_on_standby();
  }
  outside_files_ =
      postgres::find_config_files(connection, environment_.data_directory, stop_).outside;
  tablespace_version_directory_ =
      postgres::tablespace_version_directory(control_.major, control_.catalog_version);

  std::filesystem::remove_all(spool_);
  io::make_directories(io::FileSystem::real(), spool_.string());
  wal_ = std::make_unique<WalKeeper>(
      WalKeeper::Options{.store = store_.get(),
                         .connect = connect_options(),
                         .slot = fmt::format("holdfast_{}", io::random_suffix()),
                         .spool = spool_,
                         .system_identifier = control_.system_identifier,
                         .segment_bytes = control_.wal_segment_bytes,
                         .compression = compression_of(spec_),
                         .spool_only = scoped(),
                         .spool_limit = environment_.wal_keep_limit,
                         .before_put = [this](const auto& segment) { remember_wal(segment); }},
      stop_);
}

void BackupRun::start_backup() {
  enter("waiting for the start checkpoint");
  auto& connection = *connection_;
  manifest_.set_oldest_transaction(oldest_transaction(connection, stop_));
  replayed_time_us_ = last_replayed_us(connection, stop_);
  session_ = postgres::BackupSession::start(
      std::move(connection),
      {.label = spec_.label().empty() ? fmt::format("holdfast job {}", job_.id()) : spec_.label(),
       .fast_checkpoint = true},
      stop_);
  connection_.reset();
  replayed_by_ = server_position(session_->connection(), stop_);
  wal_->start(session_->start_lsn(), session_->timeline(), stop_);
  *manifest_.mutable_start() = proto_lsn(session_->start_lsn(), session_->timeline());
  manifest_.set_start_time_us(microseconds(environment_.clock->now()));
  describe_instance();
  log::info("backup started, start_lsn={} timeline={}", to_string(session_->start_lsn()),
            session_->timeline());
}

void BackupRun::find_changes() {
  if (!base_) return;
  enter("finding what changed");
  const LayerStart start{.position = session_->start_lsn(),
                         .timeline = session_->timeline(),
                         .from_standby = session_->from_standby()};
  const auto path = read_timeline_path(*store_, environment_.data_directory,
                                       control_.system_identifier, start.timeline, stop_);
  require_same_history(*base_, start, path);
  const std::string wal_directory = (environment_.data_directory / "pg_wal").string();
  require_end_in_wal(*base_, wal_directory, path);
  auto found = collection::changes_between(*store_,
                                           {.system_identifier = control_.system_identifier,
                                            .major = control_.major,
                                            .wal_segment_bytes = control_.wal_segment_bytes,
                                            .path = path,
                                            .from_timeline = base_->start().timeline(),
                                            .from = postgres::Lsn{base_->start().position()},
                                            .to = start.position,
                                            .wal_directory = wal_directory,
                                            .with_archive = !spec_.apart()},
                                           stop_);
  changes_ = {.map = std::move(found.map), .since = postgres::Lsn{base_->start().position()}};
  // Of databases and tables the history may have gaps, which store_scoped_wal() tells of.
  if (!changes_.map) {
    require_page_comparison_allowed(*base_, found, spec_.revision_history() && !scoped());
  }
  if (!changes_.map) {
    changes_.changed_databases =
        databases_changed_since(session_->connection(), base_->oldest_transaction(), stop_);
    job_.notice(
        fmt::format("reading every page, because the changes since the last backup are not "
                    "known: {}",
                    found.reason));
  }
  manifest_.set_change_source(changes_.map ? manifest::CHANGE_SOURCE_WAL
                                           : manifest::CHANGE_SOURCE_PAGE_LSN);
  log::info("continuing \"{}\", changed_blocks={}", base_->subdirectory(),
            changes_.map ? std::to_string(changes_.map->changed_blocks()) : "unknown");
}

void BackupRun::find_scope() {
  if (!scoped()) return;
  enter("finding what is in scope");
  if (base_) require_nothing_left_out(*base_, spec_.scope(), connect_options(), stop_);
  // After the start and before the files are listed: what a transaction that ends in between makes
  // is noticed at the end.
  scope_at_start_ = list_scope(connect_options(), spec_.scope(), ScopeMoment::Start, stop_);
  require_received_wal();
}

void BackupRun::plan() {
  enter("listing files");
  const postgres::WalScope scope = wal_scope(spec_.scope(), scope_at_start_, scope_at_start_);
  Plan plan =
      make_plan({.data_directory = environment_.data_directory,
                 .tablespace_version_directory = tablespace_version_directory_,
                 .outside_files = scoped() ? std::vector<std::filesystem::path>() : outside_files_,
                 .scope = scoped() ? &scope : nullptr},
                stop_);
  for (const std::string& path : plan.skipped) {
    job_.notice(fmt::format("skipping special file \"{}\"", path));
  }
  for (auto& tablespace : plan.tablespaces) *manifest_.add_tablespaces() = std::move(tablespace);
  copy_.files = std::move(plan.files);
  const auto* earlier = earlier_ ? &*earlier_ : nullptr;
  if (base_) {
    plan_incremental(*base_, changes_, earlier, copy_);
    changes_ = {};
  } else {
    copy_.files.number(earlier);
    copy_.done.assign(copy_.files.total_frames(), false);
  }
  for (std::size_t i = 0; i < copy_.files.size(); ++i) {
    if (copy_.files.kind(i) != manifest::FILE_KIND_CONTROL) continue;
    for (std::uint32_t frame = 0; frame < copy_.files.frames(i); ++frame) {
      copy_.done[copy_.files[i].first_frame + frame] = true;  // copy_control_file() takes it
    }
  }
  bytes_total_ = bytes_to_copy(copy_);
  log::info("planned {} files, bytes={}", copy_.files.size(), bytes_total_);
}

void BackupRun::reuse_finished_packs() {
  copy_.next_pack = highest_stored_pack(stop_) + 1;
  if (earlier_) {
    enter("checking what an earlier attempt copied");
    const std::vector<manifest::Pack> packs(earlier_->packs().begin(), earlier_->packs().end());
    for (const auto& pack : packs) {
      copy_.next_pack = std::max(copy_.next_pack.load(), pack.number() + 1);
    }
    reuse_packs(copy_request(), packs, copy_, *this, stop_);
    earlier_.reset();
  }
  reused_ = true;
}

void BackupRun::copy_files() {
  enter("copying files");
  last_checkpoint_us_ = microseconds(environment_.clock->now());
  copy_frames(copy_request(), copy_, *this, stop_);
  read_until_ = server_position(session_->connection(), stop_);
  // A standby does not know what its primary's transactions are at.
  databases_copied_ =
      session_->from_standby() ||
      databases_may_be_copied(session_->connection(), manifest_.oldest_transaction(), stop_);
}

void BackupRun::stop_backup() {
  enter("stopping the backup");
  // That of a standby was listed before its control file was copied.
  if (scoped() && !session_->from_standby()) scope_at_end_ = list_end_of_scope();
  if (has_scoped_history()) mark_end();
  manifest_.set_end_time_us(end_time_us());
  auto stopped = session_->finish(stop_);
  // A standby says where its pages are consistent now. Recovery of the backup ends where its
  // control file says, and no commit behind that is in it.
  if (session_->from_standby()) stopped.stop = std::min(stopped.stop, consistent_from_);
  *manifest_.mutable_stop() = proto_lsn(stopped.stop, stopped.timeline);
  manifest_.set_backup_label(stopped.backup_label);
  manifest_.set_tablespace_map(stopped.tablespace_map);
  if (scoped()) {
    if (session_->from_standby()) wait_until_replayed(stopped.stop);
    scope_after_ = list_end_of_scope();
    store_scope(spec_.scope(), scope_at_end_, manifest_);
  }
}

/// Until a commit in the backup tells a better one. Before the stop, because what is committed
/// behind the stop LSN is not in the backup. What a standby replays behind its copied control file
/// is not in it either: all that is sure to be is what was committed before that file's checkpoint,
/// whose time is in whole seconds, what was replayed when the backup began, if the pages are
/// consistent that late, and what the layer before has.
std::int64_t BackupRun::end_time_us() const {
  if (!session_->from_standby()) return microseconds(environment_.clock->now());
  const std::int64_t replayed = replayed_by_ <= consistent_from_ ? replayed_time_us_ : 0;
  return std::max({microseconds(consistent_time_), replayed, base_ ? base_->end_time_us() : 0});
}

void BackupRun::settle_changed_files() {
  wal_.reset();
  if (copy_.changes.any_file_changed()) {
    copy_.changes.apply(copy_.files);
    supersede_changed(place(), copy_.files, copy_.ledger, stop_);
  }
  copy_.ledger.drop_useless();
}

void BackupRun::move_latest() {
  if (manifest_.type() == manifest::BACKUP_TYPE_INCREMENTAL) return;
  point_latest_at(*store_, manifest_, environment_.clock->now(), stop_);
}

void BackupRun::clean_up() {
  collection::remove_checkpoints(*store_, spec_.subdirectory(), stop_);
  collection::release_lock(*store_, spec_.subdirectory(), job_.id(), stop_);
  std::int64_t rows = 0;
  for (const auto& object : manifest_.objects()) rows += std::max<std::int64_t>(object.rows(), 0);
  job_.set_result_rows(rows);
  job_.set_result_bytes(static_cast<std::int64_t>(manifest_.stored_bytes()));
  log::info("backup \"{}\" finished, files={} bytes={} stored_bytes={} packs={} wal_segments={}",
            spec_.subdirectory(), manifest_.files_size(), manifest_.plain_bytes(),
            manifest_.stored_bytes(), manifest_.packs_size(), manifest_.wal_size());
}

std::uint32_t BackupRun::highest_stored_pack(const Stop& stop) const {
  std::uint32_t highest = 0;
  store_->list(
      data_prefix(spec_.subdirectory()),
      [&](const storage::ObjectInfo& object) {
        highest = std::max(highest, pack_number(object.key).value_or(0));
      },
      stop);
  return highest;
}

postgres::ConnectOptions BackupRun::connect_options() const {
  return {.conninfo = environment_.conninfo(),
          .database = std::nullopt,
          .replication = false,
          .timeout = std::chrono::seconds(10),
          .settings = {}};
}

LayerPlace BackupRun::place() const {
  return {.store = *store_, .directory = spec_.subdirectory(), .uuid = uuid_};
}

CopyRequest BackupRun::copy_request() {
  const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
  return {
      .place = place(),
      .data_directory = environment_.data_directory,
      .checksums = control_.has_page_checksums() ? PageChecksums::On : PageChecksums::Off,
      .compression = compression_of(spec_),
      .workers = spec_.workers() != 0 ? spec_.workers() : std::min<std::size_t>(cores, kMaxWorkers),
      .throttle = throttle_};
}

}  // namespace holdfast::backup
