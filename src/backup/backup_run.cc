#include "backup/backup_run.h"

#include <fmt/core.h>
#include <sys/random.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <iterator>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "backup/base_layer.h"
#include "backup/changed_databases.h"
#include "backup/corrupt_pages.h"
#include "backup/plan.h"
#include "backup/wal_archives.h"
#include "backup/wal_cleanup.h"
#include "base/assert.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/changes.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "io/file.h"
#include "postgres/catalog.h"
#include "postgres/instance.h"

namespace holdfast::backup {

namespace {

namespace manifest = collection::proto;

constexpr std::size_t kCheckpointPacks = 16;
constexpr std::chrono::seconds kCheckpointAfter{10};
/// A running server rewrites its control file in one write; a reader that meets it tries again.
constexpr int kControlFileTries = 20;
constexpr std::chrono::milliseconds kControlFileWait{50};

proto::BackupJobSpec parse_spec(ByteView bytes) {
  proto::BackupJobSpec spec;
  if (!spec.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    throw Error(sqlstate::kInternalError, "the specification of the backup job cannot be read");
  }
  check_spec(spec);
  return spec;
}

proto::BackupJobCheckpoint parse_row(const std::optional<Bytes>& bytes) {
  proto::BackupJobCheckpoint row;
  if (bytes && !row.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) {
    throw Error(sqlstate::kInternalError, "the checkpoint of the backup job cannot be read");
  }
  return row;
}

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

std::int64_t microseconds(Time time) { return time.time_since_epoch().count(); }

manifest::Lsn to_proto(postgres::Lsn lsn, postgres::TimelineId timeline) {
  manifest::Lsn out;
  out.set_timeline(timeline);
  out.set_position(lsn.value);
  return out;
}

manifest::CatalogObject to_proto(const postgres::CatalogEntry& entry) {
  manifest::CatalogObject out;
  out.set_database(entry.database);
  out.set_schema(entry.schema);
  out.set_name(entry.name);
  out.set_type(std::string(to_string(entry.kind)));
  out.set_oid(entry.oid);
  out.set_database_oid(entry.database_oid);
  out.set_schema_oid(entry.schema_oid);
  out.set_size_bytes(entry.size_bytes);
  out.set_rows(entry.rows);
  out.set_owner(entry.owner);
  for (const std::string& grant : entry.grants) out.add_grants(grant);
  return out;
}

/// The number in ".../data/17.pack"; absent for any other key.
std::optional<std::uint32_t> pack_number(std::string_view key) {
  if (!key.ends_with(collection::kPackSuffix)) return std::nullopt;
  key.remove_suffix(collection::kPackSuffix.size());
  key.remove_prefix(key.rfind('/') + 1);
  std::uint32_t number = 0;
  const auto parsed = std::from_chars(key.data(), key.data() + key.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size()) return std::nullopt;
  return number;
}

std::string data_prefix(std::string_view directory) {
  return fmt::format("{}/{}", directory, collection::kDataDirectory);
}

/// The manifest of the backup that LATEST names; absent when it names none that can be read.
std::optional<manifest::Manifest> read_latest(storage::ObjectStore& store, const Stop& stop) {
  try {
    return collection::read_manifest(store, collection::resolve_latest(store, stop), stop);
  } catch (const Error& error) {
    if (error.state() == sqlstate::kUndefinedFile || error.state() == sqlstate::kDataCorrupted ||
        error.state() == sqlstate::kFeatureNotSupported) {
      return std::nullopt;
    }
    throw;
  }
}

}  // namespace

void move_latest_late(storage::ObjectStore& store, const manifest::Manifest& manifest, Time now,
                      const Stop& stop) {
  // By WAL, because a clock may have been set back meanwhile.
  const auto stop_of = [](const manifest::Manifest& one) {
    return std::pair(one.stop().timeline(), one.stop().position());
  };
  const auto latest = read_latest(store, stop);
  if (latest && latest->instance().system_identifier() == manifest.instance().system_identifier() &&
      stop_of(*latest) > stop_of(manifest)) {
    log::info("LATEST stays at \"{}\", which is newer", latest->subdirectory());
    return;
  }
  collection::write_latest(store, manifest.subdirectory(), now, stop);
}

BackupRun::BackupRun(const BackupEnvironment& environment, jobs::JobContext& job)
    : environment_(environment),
      job_(job),
      stop_(job.stop()),
      spec_(parse_spec(job.specification())),
      spool_(spool_of(environment, job.id())),
      store_(environment.stores->open_store(spec_.collection_uri())),
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
  written_before_ = true;
  return true;
}

void BackupRun::take_lock() {
  enter("taking the lock");
  collection::take_lock(*store_, spec_.subdirectory(), job_.id(), stop_);
}

void BackupRun::read_checkpoint() {
  if (!spec_.full().empty())
    base_ = read_base_layer(*store_, spec_.full(), spec_.subdirectory(), stop_);
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
  auto connection = postgres::Connection::open(connect_options(), stop_);
  const auto missing = postgres::check_instance(connection, environment_.data_directory, stop_);
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
  server_ = postgres::read_server_facts(connection, stop_);
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
                         .before_put = [this](const auto& segment) { remember_wal(segment); }},
      stop_);
}

void BackupRun::start_backup() {
  enter("waiting for the start checkpoint");
  auto connection = postgres::Connection::open(connect_options(), stop_);
  // The session sits idle while files are copied, however long that takes. (The setting exists
  // since PostgreSQL 14.)
  connection.query(
      "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
      " WHERE name IN ('idle_session_timeout', 'statement_timeout', 'lock_timeout')",
      stop_);
  manifest_.set_oldest_transaction(oldest_transaction(connection, stop_));
  session_ = postgres::BackupSession::start(
      std::move(connection),
      {.label = spec_.label().empty() ? fmt::format("holdfast job {}", job_.id()) : spec_.label(),
       .fast_checkpoint = true},
      stop_);
  wal_->start(session_->start_lsn(), session_->timeline(), stop_);
  *manifest_.mutable_start() = to_proto(session_->start_lsn(), session_->timeline());
  manifest_.set_start_time_us(microseconds(environment_.clock->now()));
  describe_instance();
  log::info("backup started, start_lsn={} timeline={}", to_string(session_->start_lsn()),
            session_->timeline());
}

void BackupRun::protect_wal() {
  if (spec_.unprotected() || environment_.archives == nullptr) return;
  const std::string description =
      fmt::format("WAL ARCHIVE of the backups in {}", store_->description());
  try {
    environment_.archives->ensure({.collection_uri = spec_.collection_uri(),
                                   .mode = WalArchiveMode::Maps,
                                   .start = postgres::Lsn{manifest_.stop().position()},
                                   .description = description,
                                   .statement = description,
                                   .user_name = "node"},
                                  stop_);
  } catch (const Error& error) {
    // The backup itself needs none of it.
    job_.notice(
        fmt::format("the WAL after this backup is not protected, so the next incremental may have "
                    "to read every "
                    "page: {}",
                    error.message()));
  }
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
  auto found = collection::changes_between(
      *store_,
      {.system_identifier = control_.system_identifier,
       .major = control_.major,
       .wal_segment_bytes = control_.wal_segment_bytes,
       .path = path,
       .from_timeline = base_->start().timeline(),
       .from = postgres::Lsn{base_->start().position()},
       .to = start.position,
       .wal_directory = (environment_.data_directory / "pg_wal").string()},
      stop_);
  changes_ = {.map = std::move(found.map), .since = postgres::Lsn{base_->start().position()}};
  if (!changes_.map) require_page_comparison_allowed(*base_, found, spec_.revision_history());
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

void BackupRun::describe_layer() {
  manifest_.set_revision_history(spec_.revision_history());
  manifest_.set_type(base_ ? manifest::BACKUP_TYPE_INCREMENTAL : manifest::BACKUP_TYPE_FULL);
  if (!base_) return;
  manifest_.set_full(spec_.full());
  auto& reference = *manifest_.mutable_base();
  reference.set_directory(base_->subdirectory());
  reference.set_backup_uuid(base_->backup_uuid());
  *reference.mutable_start() = base_->start();
  *reference.mutable_stop() = base_->stop();
  reference.set_end_time_us(base_->end_time_us());
}

void BackupRun::describe_instance() {
  manifest_.set_holdfast_version(environment_.holdfast_version);
  manifest_.set_backup_uuid(uuid_.data(), uuid_.size());
  manifest_.set_job_id(job_.id());
  describe_layer();
  manifest_.set_scope(manifest::SCOPE_CLUSTER);
  manifest_.set_subdirectory(spec_.subdirectory());
  manifest_.set_compression(compression_of(spec_).print());
  auto& instance = *manifest_.mutable_instance();
  instance.set_system_identifier(control_.system_identifier);
  instance.set_server_version_num(static_cast<std::uint32_t>(server_.server_version_num));
  instance.set_server_version(server_.server_version);
  instance.set_control_version(control_.control_version);
  instance.set_catalog_version(control_.catalog_version);
  instance.set_block_bytes(control_.block_bytes);
  instance.set_relation_segment_blocks(control_.relation_segment_blocks);
  instance.set_wal_segment_bytes(control_.wal_segment_bytes);
  instance.set_data_checksum_version(control_.data_checksum_version);
  instance.set_node_id(environment_.node_id);
  instance.set_locality(environment_.locality);
  instance.set_data_directory(environment_.data_directory.string());
}

void BackupRun::plan() {
  enter("listing files");
  Plan plan = make_plan({.data_directory = environment_.data_directory,
                         .tablespace_version_directory = tablespace_version_directory_,
                         .outside_files = outside_files_},
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
}

void BackupRun::list_catalog() {
  enter("listing the catalog");
  const auto listing = postgres::list_catalog(connect_options(), stop_);
  std::int64_t rows = 0;
  for (const auto& entry : listing.entries) {
    *manifest_.add_objects() = to_proto(entry);
    rows += std::max<std::int64_t>(entry.rows, 0);
  }
  for (const auto& unlisted : listing.unlisted) {
    log::info("the tables of database \"{}\" are not listed: {}", unlisted.database,
              unlisted.reason);
  }
  log::debug("listed {} objects, rows={}", listing.entries.size(), rows);
}

void BackupRun::copy_control_file() {
  const auto path = environment_.data_directory / postgres::kControlFilePath;
  for (std::size_t i = 0; i < copy_.files.size(); ++i) {
    if (copy_.files.kind(i) != manifest::FILE_KIND_CONTROL) continue;
    for (int left = kControlFileTries - 1;; --left) {
      const auto content =
          io::read_whole(io::FileSystem::real(), path.string(), postgres::kControlFileBytes);
      postgres::ControlFile control;
      try {
        control = postgres::parse_control_file(content.value_or(Bytes()), path.string());
      } catch (const Error&) {
        if (left == 0) throw;
        stop_.sleep(kControlFileWait);
        continue;
      }
      if (base_ && session_->from_standby()) require_replayed(*base_, control);
      store_control_file(i, *content);
      return;
    }
  }
  throw Error(sqlstate::kUndefinedFile,
              fmt::format("control file \"{}\" does not exist", path.string()));
}

void BackupRun::store_control_file(std::size_t position, ByteView content) {
  auto& file = copy_.files[position];
  HF_ASSERT(content.size() <= collection::kFrameBytes);
  file.size = content.size();
  collection::FrameEncoder encoder(compression_of(spec_));
  collection::PackBuilder pack(2 * postgres::kControlFileBytes);
  pack.reset(copy_.next_pack++, uuid_);
  pack.add(encoder, file.id, 0, content);
  store_pack(place(), pack, pack.finish(), copy_.ledger, stop_);
}

void BackupRun::stop_backup() {
  enter("stopping the backup");
  const auto stopped = session_->finish(stop_);
  manifest_.set_end_time_us(microseconds(environment_.clock->now()));
  *manifest_.mutable_stop() = to_proto(stopped.stop, stopped.timeline);
  manifest_.set_backup_label(stopped.backup_label);
  manifest_.set_tablespace_map(stopped.tablespace_map);
}

void BackupRun::wait_for_wal() {
  enter("waiting for WAL");
  if (session_->from_standby()) {
    job_.notice(
        "waiting for the primary to finish the WAL segment that the backup ends in; "
        "SELECT pg_switch_wal() there makes it do so at once");
  }
  wal_->finish(postgres::Lsn{manifest_.stop().position()}, stop_);
  for (auto& segment : wal_->segments()) *manifest_.add_wal() = std::move(segment);
  session_.reset();
}

void BackupRun::examine_wal() {
  enter("examining WAL");
  const postgres::WalRange range{.reader = {.major = control_.major,
                                            .wal_segment_bytes = control_.wal_segment_bytes,
                                            .start = postgres::Lsn{manifest_.start().position()},
                                            .system_identifier = control_.system_identifier},
                                 .end = postgres::Lsn{manifest_.stop().position()}};
  judge_suspects(range);
  if (const auto time = last_commit(range)) manifest_.set_end_time_us(microseconds(*time));
}

void BackupRun::judge_suspects(const postgres::WalRange& range) {
  const auto suspects = copy_.changes.suspects();
  if (suspects.empty()) return;
  const auto summary = postgres::summarize_backup_wal(range, wal_->input(stop_), suspects, stop_);
  std::vector<postgres::BlockKey> corrupt;
  std::set_difference(suspects.begin(), suspects.end(), summary.rewritten.begin(),
                      summary.rewritten.end(), std::back_inserter(corrupt));
  log::info("{} pages had a wrong checksum, {} of them torn by concurrent writes", suspects.size(),
            suspects.size() - corrupt.size());
  if (corrupt.empty()) return;

  const auto reports =
      describe_corrupt_pages(corrupt, tablespace_version_directory_, connect_options(), stop_);
  const bool fatal =
      std::ranges::any_of(corrupt, [](const auto& key) { return !heals_by_itself(key.fork); });
  if (fatal && !spec_.allow_corrupt_pages()) throw corrupt_pages_error(reports);
  job_.notice(fmt::format("the backup has {} corrupt pages:\n{}", reports.size(),
                          list_corrupt_pages(reports)));
  for (const auto& report : reports) {
    auto& page = *manifest_.add_corrupt_pages();
    page.set_path(report.path);
    page.set_block(report.key.block);
  }
}

std::optional<Time> BackupRun::last_commit(const postgres::WalRange& range) {
  // From the last segment back to the first: a commit is nearly always close to the end, where the
  // WAL is still in the spool.
  const std::uint64_t bytes = control_.wal_segment_bytes;
  for (postgres::Lsn end = range.end; end > range.reader.start;) {
    postgres::WalRange part = range;
    part.end = end;
    part.reader.start = std::max(
        range.reader.start,
        postgres::segment_start(postgres::segment_of(postgres::Lsn{end.value - 1}, bytes), bytes));
    const auto summary = postgres::summarize_backup_wal(part, wal_->input(stop_), {}, stop_);
    if (summary.last_commit_time) return summary.last_commit_time;
    end = part.reader.start;
  }
  return std::nullopt;
}

void BackupRun::settle_changed_files() {
  wal_.reset();
  if (copy_.changes.any_file_changed()) {
    copy_.changes.apply(copy_.files);
    supersede_changed(place(), copy_.files, copy_.ledger, stop_);
  }
  copy_.ledger.drop_useless();
}

void BackupRun::remove_leftovers() {
  std::set<storage::ObjectKey> wanted;
  for (const auto& pack : copy_.ledger.packs()) {
    wanted.insert(collection::pack_key(spec_.subdirectory(), pack.number()));
  }
  std::vector<storage::ObjectKey> orphans;
  store_->list(
      data_prefix(spec_.subdirectory()),
      [&](const storage::ObjectInfo& object) {
        if (!wanted.contains(object.key)) orphans.push_back(object.key);
      },
      stop_);
  for (const auto& key : orphans) storage::remove_if_allowed(*store_, key, stop_);

  proto::BackupJobCheckpoint before_start;
  {
    MutexLock lock(row_mutex_);
    const std::uint64_t first = manifest_.wal(0).segment();
    for (const auto& range : row_.wal()) {
      if (range.timeline() == manifest_.wal(0).timeline() && range.last() < first) {
        *before_start.add_wal() = range;
      }
    }
  }
  remove_unneeded_wal(*store_, spec_.subdirectory(), before_start, stop_);
}

void BackupRun::write_manifest() {
  enter("writing the manifest");
  for (const auto& directory : copy_.files.directories()) {
    auto& out = *manifest_.add_directories();
    out.set_path(directory.path);
    out.set_mode(directory.mode);
  }
  copy_.files.store(manifest_);
  copy_.hashes.store(copy_.files, manifest_);
  manifest_.set_next_file_id(copy_.files.next_id());
  std::uint64_t stored = 0;
  for (auto& pack : copy_.ledger.packs()) {
    stored += pack.size();
    *manifest_.add_packs() = std::move(pack);
  }
  manifest_.set_plain_bytes(copy_.files.total_bytes());
  manifest_.set_stored_bytes(stored);
  manifest_.set_read_bytes(copy_.bytes_read);
  collection::write_manifest(*store_, spec_.subdirectory(), manifest_, stop_);
  written_ = true;
}

void BackupRun::move_latest() {
  if (manifest_.type() == manifest::BACKUP_TYPE_INCREMENTAL) return;
  const Time now = environment_.clock->now();
  if (written_before_) {
    move_latest_late(*store_, manifest_, now, stop_);
  } else {
    collection::write_latest(*store_, spec_.subdirectory(), now, stop_);
  }
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

void BackupRun::save_progress() {
  if (written_ || !reused_ || copy_.ledger.size() == 0) return;
  write_checkpoint(Stop::never());
}

void BackupRun::frame_done(std::uint64_t bytes) {
  bytes_done_ += bytes;
  wal_->check();
  report();
}

void BackupRun::pack_stored() {
  job_.pause_point("backup.copy");
  ++packs_since_checkpoint_;
  const auto now = microseconds(environment_.clock->now());
  const bool due = packs_since_checkpoint_ >= kCheckpointPacks ||
                   now - last_checkpoint_us_ >= std::chrono::microseconds(kCheckpointAfter).count();
  // One thread writes; the others go on.
  if (!due || checkpointing_.exchange(true)) return;
  packs_since_checkpoint_ = 0;
  write_checkpoint(stop_);
  // A checkpoint of very many files takes long itself.
  const auto end = microseconds(environment_.clock->now());
  last_checkpoint_us_ = end + (end - now);
  checkpointing_ = false;
}

void BackupRun::write_checkpoint(const Stop& stop) {
  manifest::Manifest partial = manifest_;
  copy_.files.store(partial);
  for (auto& pack : copy_.ledger.packs()) *partial.add_packs() = std::move(pack);
  collection::write_checkpoint(*store_, spec_.subdirectory(), partial,
                               static_cast<std::uint64_t>(microseconds(environment_.clock->now())),
                               stop);
  log::info("checkpoint, packs={}", partial.packs_size());
}

void BackupRun::enter(std::string phase) {
  phase_ = std::move(phase);
  report();
}

void BackupRun::report() {
  job_.report({.bytes_done = std::min(bytes_done_.load(), bytes_total_),
               .bytes_total = bytes_total_,
               .phase = phase_});
}

void BackupRun::remember_wal(const collection::WalSegmentId& segment) {
  std::string row;
  {
    MutexLock lock(row_mutex_);
    add_wal(row_, segment);
    row = row_.SerializeAsString();
  }
  job_.save_checkpoint(as_bytes(row));
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
