// What a backup of databases or tables does with WAL: its own, and with revision history that since
// the layer before.
#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "backup/backup_run.h"
#include "backup/backup_run_internal.h"
#include "backup/wal_archives.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "io/file.h"
#include "postgres/relation_path.h"
#include "postgres/wal_position.h"

namespace holdfast::backup {

namespace {

std::string hold_of_job(jobs::JobId job) { return fmt::format("{}{}", kHoldOfJob, job); }

/// A new full of the same takes the hold over: nobody extends the chain before any more.
std::string hold_of_scope(const Scope& scope) {
  // Databases made of one template have tables of the same OIDs.
  std::set<std::pair<std::uint32_t, std::uint32_t>> objects;
  for (const auto& database : scope) {
    if (database.tables().empty()) objects.emplace(database.oid(), 0);
    for (const auto& table : database.tables()) objects.emplace(database.oid(), table.oid());
  }
  std::string owner = "scope";
  for (const auto& [database, table] : objects) owner += fmt::format(" {}/{}", database, table);
  return owner;
}

/// Files of relations that the layer holds: of an unlogged one, what makes it empty.
DatabaseFiles files_in(const collection::proto::Manifest& layer) {
  DatabaseFiles files;
  for (const auto& file : layer.files()) {
    const auto path = postgres::parse_relation_path(file.path());
    if (path && (path->fork == postgres::Fork::Main || path->fork == postgres::Fork::Init)) {
      files.emplace(path->relation.database, path->relation.relation);
    }
  }
  return files;
}

/// With what the layer before has in scope, as far as its files are known: what was dropped since
/// then has a history up to there.
postgres::WalScope joined_scope(postgres::WalScope scope, const collection::proto::Manifest& base) {
  const DatabaseFiles held = files_in(base);
  for (const auto& database : base.scope_databases()) {
    const auto [joined, added] = scope.databases.try_emplace(database.oid());
    if (database.tables().empty()) {
      joined->second = {};
      continue;
    }
    auto& relations = joined->second;
    if (added) relations.all = false;
    if (relations.all) continue;
    relations.files.insert(database.files().begin(), database.files().end());
    for (auto file = held.lower_bound({database.oid(), 0});
         file != held.end() && file->first == database.oid(); ++file) {
      relations.files.insert(file->second);
    }
  }
  return scope;
}

/// Of the files in a scope, those that `base` holds or the WAL since its start makes.
void list_whole_files(const postgres::WalScope& scope, const collection::proto::Manifest& base,
                      const DatabaseFiles& made, collection::proto::LayerHistory& history) {
  const DatabaseFiles held = files_in(base);
  for (const auto& [database, relations] : scope.databases) {
    if (relations.all) continue;
    auto& listed = *history.add_files();
    listed.set_database(database);
    const std::set<std::uint32_t> sorted(relations.files.begin(), relations.files.end());
    for (const auto file : sorted) {
      if (held.contains({database, file}) || made.contains({database, file})) {
        listed.add_files(file);
      }
    }
  }
}

}  // namespace

void BackupRun::keep_scoped_history() {
  enter("waiting for the WAL archive");
  if (environment_.archives == nullptr) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "revision history needs a WAL archive, which cannot be kept here");
  }
  ensure_archive(WalArchiveMode::Maps, {});
  auto connection = postgres::Connection::open(connect_options(), stop_);
  const auto position = postgres::wal_position(connection, "", stop_);
  if (!position) throw no_scoped_history_on_standby();
  // The start of the backup, which is not known yet, is behind this.
  environment_.archives->hold(spec_.collection_uri(),
                              {.owner = hold_of_job(job_.id()),
                               .full = spec_.full().empty() ? spec_.subdirectory() : spec_.full(),
                               .timeline = position->timeline,
                               .from = position->flushed,
                               .since = environment_.clock->now()});
}

void BackupRun::hand_over_hold() {
  backup::hand_over_hold(environment_, spec_, job_.id(), manifest_);
}

void release_hold(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                  jobs::JobId job) {
  if (spec.scope().empty() || !spec.revision_history() || environment.archives == nullptr) return;
  environment.archives->release_hold(spec.collection_uri(), hold_of_job(job));
}

void hand_over_hold(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                    jobs::JobId job, const collection::proto::Manifest& manifest) {
  if (spec.scope().empty() || environment.archives == nullptr) return;
  const std::string& full = spec.full().empty() ? spec.subdirectory() : spec.full();
  if (!spec.revision_history()) {
    // The chain's next layer has no history to go on with.
    return environment.archives->release_chain(spec.collection_uri(), full);
  }
  environment.archives->hold_for_chain(spec.collection_uri(),
                                       {.owner = hold_of_scope(spec.scope()),
                                        .full = full,
                                        .timeline = manifest.start().timeline(),
                                        .from = postgres::Lsn{manifest.start().position()},
                                        .since = environment.clock->now()});
  release_hold(environment, spec, job);
}

/// A commit that the layer has, at which it ends: whatever was committed before is then known to be
/// all that was.
void BackupRun::mark_end() {
  // Durable here is enough: no standby is waited for.
  session_->connection().simple_query(
      "BEGIN READ WRITE; SET LOCAL synchronous_commit = 'local';"
      " SELECT pg_catalog.pg_logical_emit_message(true, 'holdfast', ''); COMMIT",
      stop_);
}

std::string BackupRun::new_wal_directory() const {
  // What an earlier attempt put there may be of another scope, and is never overwritten.
  return fmt::format("{}/{}/{}", spec_.subdirectory(), collection::kWalDirectory,
                     io::random_suffix());
}

void BackupRun::store_scoped_wal(postgres::Lsn end) {
  const postgres::WalRange range{.reader = {.major = control_.major,
                                            .wal_segment_bytes = control_.wal_segment_bytes,
                                            .start = postgres::Lsn{manifest_.start().position()},
                                            .system_identifier = control_.system_identifier},
                                 .end = postgres::Lsn{manifest_.stop().position()}};
  check_scope(range);
  enter("storing WAL");
  ScopedWalRequest request{.store = *store_,
                           .spool = spool_,
                           .directory = new_wal_directory(),
                           .system_identifier = control_.system_identifier,
                           .timeline = manifest_.start().timeline(),
                           .compression = compression_of(spec_),
                           .histories = wal_->histories(),
                           .filter = {.major = control_.major,
                                      .wal_segment_bytes = control_.wal_segment_bytes,
                                      .start = range.reader.start,
                                      .end = end,
                                      .outside = postgres::WalFilterOptions::Outside::Blank}};
  if (store_history(request)) return;
  auto segments = backup::store_scoped_wal(
      request, wal_scope(spec_.scope(), scope_at_start_, scope_at_end_), stop_);
  manifest_.set_wal_directory(request.directory);
  for (auto& segment : segments) *manifest_.add_wal() = std::move(segment);
}

/// Why moments between the layer before and this one cannot be restored; empty when nothing is in
/// the way yet.
std::string BackupRun::find_history_gap() const {
  if (base_->start().timeline() != manifest_.start().timeline()) {
    return fmt::format("the server has gone on from timeline {} to {}", base_->start().timeline(),
                       manifest_.start().timeline());
  }
  return {};
}

/// Stores the WAL from the start of the layer before on, and the layer's own with it. False where
/// there is no such history: the layer itself needs only its own WAL.
bool BackupRun::store_history(ScopedWalRequest& request) {
  if (!has_scoped_history() || !base_ || !base_->revision_history()) return false;
  std::string gap = find_history_gap();
  if (gap.empty()) {
    ScopedWalRequest whole = request;
    whole.directory = new_wal_directory();
    whole.filter.start = postgres::Lsn{base_->start().position()};
    whole.first_received = segment_of(request.filter.start, control_.wal_segment_bytes);
    whole.server_wal = (environment_.data_directory / "pg_wal").string();
    const auto scope =
        joined_scope(wal_scope(spec_.scope(), scope_at_start_, scope_at_end_), *base_);
    try {
      auto segments = backup::store_scoped_wal(whole, scope, stop_);
      const postgres::WalRange range{.reader = {.major = control_.major,
                                                .wal_segment_bytes = control_.wal_segment_bytes,
                                                .start = whole.filter.start,
                                                .system_identifier = control_.system_identifier},
                                     .end = postgres::Lsn{manifest_.stop().position()}};
      DatabaseFiles made;
      if (!scope_at_end_.tables.empty()) {
        made = read_new_files(range, scoped_wal_input(whole), scope, stop_);
      }
      job_.pause_point("backup.after_history");
      manifest_.set_wal_directory(whole.directory);
      auto& history = *manifest_.mutable_history();
      list_whole_files(scope, *base_, made, history);
      for (auto& segment : segments) {
        *(segment.segment() < whole.first_received ? history.add_wal() : manifest_.add_wal()) =
            std::move(segment);
      }
      return true;
    } catch (const Error& error) {
      // What is wrong with the layer's own WAL shows again without the rest.
      if (error.state() != sqlstate::kUndefinedFile && error.state() != sqlstate::kDataCorrupted) {
        throw;
      }
      gap = error.message();
    }
    // remove_leftovers() removes what was put.
  }
  job_.notice(fmt::format(
      "moments between the end of \"{}\" ({}) and that of this backup cannot be "
      "restored: {}",
      base_->subdirectory(), format_timestamptz(time_from_us(base_->end_time_us())), gap));
  return false;
}

}  // namespace holdfast::backup
