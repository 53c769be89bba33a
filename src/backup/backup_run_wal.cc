// What a backup does with WAL: it has it kept, puts it into the collection, and reads in it.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <set>

#include "backup/backup_run.h"
#include "backup/backup_run_internal.h"
#include "backup/copied_databases.h"
#include "backup/corrupt_pages.h"
#include "backup/wal_archives.h"
#include "backup/wal_cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "io/file.h"
#include "postgres/relation_path.h"

namespace holdfast::backup {
namespace {

/// Behind the header of a segment's first page. Source: PostgreSQL
/// src/include/access/xlog_internal.h (XLogLongPageHeaderData).
constexpr std::uint64_t kFirstRecordOfSegment = 40;

}  // namespace

void notice_other_lock(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                       jobs::JobContext& job) {
  if (spec.object_lock().empty() || environment.archives == nullptr) return;
  const WalArchives& archives = *environment.archives;
  if (archives.find(spec.collection_uri()).has_value() &&
      !archives.retains(spec.collection_uri(), spec.object_lock(), spec.retain_for_seconds())) {
    job.notice(
        "the WAL archive of this collection puts its objects without this object_lock; make it "
        "anew with DROP WAL ARCHIVE and CREATE WAL ARCHIVE … WITH object_lock");
  }
}

jobs::JobId ensure_archive(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                           jobs::JobContext& job, const storage::ObjectStore& store,
                           WalArchiveMode mode, postgres::Lsn start) {
  notice_other_lock(environment, spec, job);
  const std::string description =
      fmt::format("WAL ARCHIVE of the backups in {}", store.description());
  return environment.archives->ensure({.collection_uri = spec.collection_uri(),
                                       .mode = mode,
                                       .start = start,
                                       .description = description,
                                       .statement = description,
                                       .user_name = "node",
                                       .key = collection::parse_keys(spec.keys()).wal,
                                       .object_lock = spec.object_lock(),
                                       .retain_for_seconds = spec.retain_for_seconds()},
                                      job.stop());
}

void keep_history(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                  jobs::JobContext& job, const storage::ObjectStore& store) {
  if (environment.archives == nullptr) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "revision history needs a WAL archive, which cannot be kept here");
  }
  const auto archive = ensure_archive(environment, spec, job, store, WalArchiveMode::Full, {});
  environment.archives->wait_until_full(archive, kArchivePatience, job.stop());
}

void BackupRun::begin_history() {
  if (has_scoped_history()) return keep_scoped_history();
  if (scoped() && !spec_.unprotected()) protect_from({});
  if (!spec_.revision_history()) return;
  enter("waiting for the WAL archive");
  keep_history(environment_, spec_, job_, *store_);
}

jobs::JobId BackupRun::ensure_archive(WalArchiveMode mode, postgres::Lsn start) {
  return backup::ensure_archive(environment_, spec_, job_, *store_, mode, start);
}

void BackupRun::protect_wal() {
  // A layer with WAL of its own needs none of an archive's.
  if (scoped()) return hand_over_hold();
  if (spec_.unprotected()) return notice_other_lock(environment_, spec_, job_);
  protect_from(postgres::Lsn{manifest_.stop().position()});
}

void BackupRun::protect_from(postgres::Lsn start) {
  if (environment_.archives == nullptr) return;
  try {
    ensure_archive(WalArchiveMode::Maps, start);
  } catch (const Error& error) {
    // The backup itself needs none of it.
    job_.notice(
        fmt::format("the WAL after this backup is not protected, so the next incremental may have "
                    "to read every "
                    "page: {}",
                    error.message()));
  }
}

void BackupRun::wait_for_wal() {
  enter("waiting for WAL");
  if (session_->from_standby()) {
    job_.notice(
        "waiting for the primary to finish the WAL segment that the backup ends in; "
        "SELECT pg_switch_wal() there makes it do so at once");
  }
  postgres::Lsn end{manifest_.stop().position()};
  // Recovery looks whether it is consistent before each record, so there must be one behind the
  // end. On a primary the switch to a new segment is; the end that a standby gives may be the very
  // end of a segment. Source: PostgreSQL src/backend/access/transam/xlogrecovery.c
  // (recoveryStopsBefore; recoveryStopsAfter looks at commits only).
  if (session_->from_standby() && end.value % control_.wal_segment_bytes == 0) {
    end.value += kFirstRecordOfSegment;
  }
  if (scoped()) end = scoped_wal_end(end, control_.wal_segment_bytes);
  wal_->finish(end, stop_);
  if (scoped()) {
    store_scoped_wal(end);
    session_.reset();
    return;
  }
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
  if (databases_copied_) require_sound_copies(range);
  judge_suspects({.pages = copy_.changes.suspects(),
                  .range = range,
                  .input = wal_->input(stop_),
                  .tablespace_version_directory = tablespace_version_directory_,
                  .connect = [this] { return connect_options(); },
                  .allow_corrupt = spec_.allow_corrupt_pages()},
                 job_, manifest_);
  const auto time = last_commit(range);
  if (!time) return;
  const bool of_standby = consistent_from_.valid();
  manifest_.set_end_time_us(
      std::max(microseconds(*time), of_standby && base_ ? base_->end_time_us() : 0));
}

/// What cannot be replayed as it was is taken again: most of it is in finished packs by then.
void BackupRun::require_sound_copies(postgres::WalRange range) {
  range.end = std::min(range.end, read_until_);
  const auto copy = find_unsound_copy(
      range, wal_->input(stop_), [this](const auto& files) { return has_all_files(files); },
      [this](std::uint32_t database) {
        return !scoped() || std::ranges::any_of(spec_.scope(), [&](const auto& one) {
          return one.oid() == database;
        });
      },
      stop_);
  if (!copy) return;
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("the files of database {} were copied to database {} while they were "
                          "backed up",
                          copy->source.database, copy->target.database))
      .detail(
          "CREATE DATABASE with STRATEGY file_copy and ALTER DATABASE … SET TABLESPACE log that "
          "files are copied, not what is in them, and the backup has read the source at another "
          "moment.")
      .hint("Take the backup again when no database is created or moved that way.")
      .retry(Retry::Safe);
}

bool BackupRun::has_all_files(const postgres::DatabaseFiles& files) const {
  const std::string directory = files.tablespace == postgres::kDefaultTablespace
                                    ? fmt::format("base/{}", files.database)
                                    : fmt::format("pg_tblspc/{}/{}/{}", files.tablespace,
                                                  tablespace_version_directory_, files.database);
  const auto& directories = copy_.files.directories();
  const auto found = std::ranges::find(directories, directory, &DirectoryEntry::path);
  if (found == directories.end()) return false;
  const auto index = static_cast<std::uint32_t>(found - directories.begin());
  for (std::size_t i = 0; i < copy_.files.size(); ++i) {
    if (copy_.files[i].directory == index && copy_.changes.is_gone(i)) return false;
  }
  return true;
}

void judge_suspects(const SuspectPages& suspects, jobs::JobContext& job,
                    collection::proto::Manifest& manifest) {
  const auto& pages = suspects.pages;
  if (pages.empty()) return;
  const auto summary =
      postgres::summarize_backup_wal(suspects.range, suspects.input, pages, job.stop());
  std::vector<postgres::BlockKey> corrupt;
  std::set_difference(pages.begin(), pages.end(), summary.rewritten.begin(),
                      summary.rewritten.end(), std::back_inserter(corrupt));
  log::info("{} pages had a wrong checksum, {} of them torn by concurrent writes", pages.size(),
            pages.size() - corrupt.size());
  if (corrupt.empty()) return;

  const auto reports = describe_corrupt_pages(corrupt, suspects.tablespace_version_directory,
                                              suspects.connect(), job.stop());
  const bool fatal =
      std::ranges::any_of(corrupt, [](const auto& key) { return !heals_by_itself(key.fork); });
  if (fatal && !suspects.allow_corrupt) throw corrupt_pages_error(reports);
  job.notice(fmt::format("the backup has {} corrupt pages:\n{}", reports.size(),
                         list_corrupt_pages(reports)));
  for (const auto& report : reports) {
    auto& page = *manifest.add_corrupt_pages();
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

void BackupRun::check_scope(const postgres::WalRange& range) {
  if (scope_at_end_.tables.empty()) return;
  enter("checking the scope");
  auto history = read_file_history(range, wal_->input(stop_),
                                   wal_scope(spec_.scope(), scope_at_start_, scope_at_end_),
                                   listed_from_, stop_);
  ScopeCheck check{.end = scope_at_end_,
                   .after = scope_after_,
                   .copied = {},
                   .created = std::move(history.created),
                   .dropped = std::move(history.dropped),
                   .redefined = std::move(history.redefined)};
  for (std::size_t i = 0; i < copy_.files.size(); ++i) {
    const auto path = postgres::parse_relation_path(copy_.files.path(i));
    const bool content = path && !copy_.changes.is_gone(i) &&
                         (path->fork == postgres::Fork::Main || path->fork == postgres::Fork::Init);
    if (content) check.copied.emplace(path->relation.database, path->relation.relation);
  }
  require_all_files(check);
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
  if (scoped()) {
    const std::string own = manifest_.wal_directory() + "/";
    store_->list(
        fmt::format("{}/{}", spec_.subdirectory(), collection::kWalDirectory),
        [&](const storage::ObjectInfo& object) {
          if (!object.key.starts_with(own)) orphans.push_back(object.key);
        },
        stop_);
  }
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
  remove_unneeded_wal(*store_,
                      {.subdirectory = spec_.subdirectory(),
                       .now = environment_.clock->now(),
                       .has_unfinished_job = environment_.has_unfinished_job},
                      before_start, stop_);
}

}  // namespace holdfast::backup
