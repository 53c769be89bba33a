#include "statements/backup_statement.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "backup/backup_job.h"
#include "base/error.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/deletion_marks.h"
#include "collection/encryption.h"
#include "collection/scope.h"
#include "sql/printer.h"
#include "statements/backup_rights.h"
#include "statements/collection_place.h"
#include "statements/encryption.h"
#include "statements/find_backup.h"
#include "statements/job_result.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"
#include "statements/storage_options.h"

namespace holdfast::statements {

namespace {

void refuse_unsupported(const sql::Backup& statement) {
  switch (statement.targets.kind) {
    case sql::Targets::Kind::Cluster:
      break;
    case sql::Targets::Kind::Databases:
    case sql::Targets::Kind::Tables:
      if (statement.as_of) {
        refuse_missing("BACKUP of databases or tables AS OF SYSTEM TIME",
                       "a full backup of the past made of a chain of databases or tables");
      }
      break;
    case sql::Targets::Kind::SystemUsers:
    case sql::Targets::Kind::VirtualCluster:
      refuse_missing("BACKUP VIRTUAL CLUSTER", "virtual clusters, which PostgreSQL does not have");
      break;
  }
  refuse_unsupported_options(statement.options, "BACKUP");
}

bool of_cluster(const sql::Backup& statement) {
  return statement.targets.kind == sql::Targets::Kind::Cluster;
}

backup::proto::BackupJobSpec make_spec(const sql::Backup& statement) {
  backup::proto::BackupJobSpec spec;
  spec.set_compression(statement.options.text("compression").value_or(""));
  if (auto rate = statement.options.text("max_rate")) spec.set_max_rate(parse_rate(*rate));
  spec.set_workers(workers_option(statement.options, backup::kMaxWorkers));
  const sql::Option* protect = statement.options.find("protect");
  spec.set_unprotected(protect != nullptr && !protect->enabled);
  spec.set_revision_history(statement.options.flag("revision_history"));
  if (spec.revision_history() && spec.unprotected()) {
    throw Error(sqlstate::kInvalidParameterValue,
                "option revision_history cannot be used with protect = false")
        .detail("Revision history is the WAL from the backup on, which the archive keeps.");
  }
  spec.set_allow_corrupt_pages(statement.options.flag("allow_corrupt_pages"));
  return spec;
}

/// Whether something of a full is there already.
bool is_taken(storage::ObjectStore& store, const std::string& subdirectory, const Stop& stop) {
  return store.stat(collection::manifest_key(subdirectory), stop) ||
         collection::is_encrypted(store, subdirectory, stop);
}

/// The first subdirectory from `now` on, in steps of its resolution, that no full has. Two
/// statements in one centisecond may choose the same: the lock inside decides between them.
std::string choose_subdirectory(storage::ObjectStore& store, Time now, const Stop& stop) {
  for (;;) {
    std::string subdirectory = collection::subdirectory_for(now);
    if (!is_taken(store, subdirectory, stop)) return subdirectory;
    now += std::chrono::milliseconds(10);
  }
}

/// The same for a full of the past, which is named after its moment, as CockroachDB's: several may
/// be asked for of one, and there may have been one that was deleted.
std::string choose_past_subdirectory(storage::ObjectStore& store, Time moment, const Stop& stop) {
  for (;;) {
    std::string subdirectory = choose_subdirectory(store, moment, stop);
    if (collection::look_at_unfinished(store, subdirectory, stop).jobs.empty() &&
        collection::deletion_marks(store, subdirectory, stop).empty()) {
      return subdirectory;
    }
    moment = *collection::parse_subdirectory(subdirectory) + std::chrono::milliseconds(10);
  }
}

/// Whether the full is one of databases or tables; absent when it cannot be told, without a key.
/// (Encrypted ones of earlier versions do not say it.)
std::optional<bool> scoped_full(storage::ObjectStore& store, const std::string& full,
                                const Stop& stop) {
  try {
    const auto manifest = collection::read_manifest(store, full, stop);
    if (manifest) return collection::is_scoped(*manifest);
  } catch (const Error& error) {
    if (error.state() != sqlstate::kInvalidParameterValue &&
        error.state() != sqlstate::kDataCorrupted) {
      throw;
    }
  }
  const auto mark = collection::read_chain_mark(store, full, stop);
  if (mark && mark->own_wal) return true;
  return std::nullopt;
}

/// What LATEST means for a backup: the newest full of its kind, where what LATEST names is, as far
/// as it can be told, of another.
std::string latest_full(storage::ObjectStore& store, bool scoped, const Stop& stop) {
  std::string latest = collection::resolve_latest(store, stop);
  if (scoped_full(store, latest, stop).value_or(false) == scoped) return latest;
  const auto fulls = collection::list_fulls(store, stop);
  for (auto full = fulls.rbegin(); full != fulls.rend(); ++full) {
    if (scoped_full(store, *full, stop) == scoped) return *full;
  }
  return latest;
}

/// The full that an incremental goes onto; absent when there is none (yet).
std::optional<std::string> find_full(storage::ObjectStore& store, const sql::Subdirectory& onto,
                                     bool scoped, const Stop& stop) {
  if (onto.latest) {
    try {
      return latest_full(store, scoped, stop);
    } catch (const Error& error) {
      if (error.state() != sqlstate::kUndefinedFile) throw;
      return std::nullopt;
    }
  }
  std::string full = subdirectory_of(onto);
  if (!store.stat(collection::manifest_key(full), stop)) return std::nullopt;
  return full;
}

/// Where a new incremental layer goes: after all that are there, whatever the clock says.
std::string choose_layer(storage::ObjectStore& store, const std::string& full, Time now,
                         const Stop& stop) {
  const auto last =
      collection::parse_incremental_directory(collection::list_layers(store, full, stop).back());
  if (last) now = std::max(now, last->time + std::chrono::milliseconds(10));
  return collection::incremental_directory(full, now);
}

/// Sets the layer's place. Where an incremental has no full to go onto, a full is taken instead.
void choose_place(const sql::Backup& statement, storage::ObjectStore& store, Time now,
                  backup::proto::BackupJobSpec& spec, sql::RowSink& sink, const Stop& stop) {
  if (statement.onto) {
    if (const auto full = find_full(store, *statement.onto, !of_cluster(statement), stop)) {
      spec.set_full(*full);
      spec.set_subdirectory(choose_layer(store, *full, now, stop));
      return;
    }
    if (!statement.onto->latest) spec.set_subdirectory(subdirectory_of(*statement.onto));
  }
  if (statement.as_of) {
    if (statement.onto) throw no_full_of_the_past();
    const Time moment{std::chrono::microseconds(spec.as_of().time_us())};
    spec.set_subdirectory(choose_past_subdirectory(store, moment, stop));
    return;
  }
  if (spec.subdirectory().empty()) spec.set_subdirectory(choose_subdirectory(store, now, stop));
  if (statement.onto) {
    sink.notice({.message = fmt::format("no full backup exists there, so this one is full: {}",
                                        spec.subdirectory())});
  }
}

/// Refuses a place where the layers of the chain are not; `located` is null without another one.
/// The job ties the chain to it, when it knows that the layer belongs on that full.
void choose_location(collection::LocatedStore* located, const backup::proto::BackupJobSpec& spec,
                     storage::ObjectStore& store, collection::Viewer viewer, const Stop& stop) {
  if (located == nullptr) {
    collection::require_no_hidden_incrementals(store, spec.full(), viewer, stop);
  } else {
    located->claim(spec.full(), collection::LocatedStore::Claim::OnlyCheck, viewer, stop);
  }
}

/// The keys of the layer that `spec` is for, made where they do not exist yet. Refuses a layer that
/// is to be encrypted otherwise than what it belongs to.
collection::CollectionKeys choose_keys(const sql::Backup& statement,
                                       const backup::proto::BackupJobSpec& spec,
                                       storage::ObjectStore& store, Stores& stores,
                                       sql::SessionContext& session, const Stop& stop) {
  const std::uint64_t server = system_identifier(session);
  const auto guard = key_guard(statement.options, stores, session);
  if (!guard) {
    const std::string& full = spec.full().empty() ? spec.subdirectory() : spec.full();
    collection::open_chain(store, full, nullptr, stop);
    collection::require_plain_wal(store, server, stop);
    return {};
  }
  if (!spec.full().empty()) {
    return collection::continue_chain(store, spec.full(), server, *guard, stop);
  }
  if (session.dry_run()) {
    if (!collection::open_wal(store, server, *guard, collection::WalKey::Find, stop)) {
      // Whether it can be used at all shows now, and not when nobody looks.
      collection::proto::EncryptionInfo unused;
      guard->wrap(crypto::SecretKey::random(), "a dry run", unused, stop);
    }
    return {};
  }
  return collection::make_chain(
      store, spec.subdirectory(), server, *guard, stop,
      {.mode = spec.object_lock(), .retain_for_seconds = spec.retain_for_seconds()});
}

/// The keys of the layer of databases or tables that `spec` is for. Its WAL is the layer's own, so
/// that every chain may have a key of its own; the server's WAL in the collection serves where it
/// can be used.
collection::CollectionKeys choose_scoped_keys(const sql::Backup& statement,
                                              backup::proto::BackupJobSpec& spec,
                                              storage::ObjectStore& store, Stores& stores,
                                              sql::SessionContext& session, sql::RowSink& sink,
                                              const Stop& stop) {
  const std::uint64_t server = system_identifier(session);
  const auto guard = key_guard(statement.options, stores, session);
  const sql::Option* protect = statement.options.find("protect");
  const bool asked_for =
      ((protect != nullptr && protect->enabled) || spec.revision_history()) && !spec.unprotected();
  collection::CollectionKeys keys;
  if (!guard) {
    const std::string& full = spec.full().empty() ? spec.subdirectory() : spec.full();
    collection::open_chain(store, full, nullptr, stop);
    if (asked_for) collection::require_plain_wal(store, server, stop);
    spec.set_apart(collection::is_wal_encrypted(store, server, stop));
  } else if (session.dry_run() && spec.full().empty()) {
    // Whether it can be used at all shows now, and not when nobody looks.
    collection::proto::EncryptionInfo unused;
    guard->wrap(crypto::SecretKey::random(), "a dry run", unused, stop);
    return {};
  } else {
    keys = spec.full().empty()
               ? collection::make_scoped_chain(
                     store, spec.subdirectory(), server, *guard, stop,
                     {.mode = spec.object_lock(), .retain_for_seconds = spec.retain_for_seconds()})
               : collection::continue_scoped_chain(store, spec.full(), server, *guard, stop);
    const auto make =
        asked_for && !session.dry_run() ? collection::WalKey::Make : collection::WalKey::Find;
    try {
      keys.wal = collection::open_wal(store, server, *guard, make, stop);
    } catch (const Error& error) {
      if (asked_for || error.state() != sqlstate::kInvalidParameterValue) throw;
    }
    spec.set_apart(!keys.wal);
  }
  if (!spec.apart() || spec.unprotected()) return keys;
  spec.set_unprotected(true);
  sink.notice({.message =
                   "the WAL after this backup is not protected, so the next incremental may "
                   "have to read every page: the collection has no WAL archive with this key",
               .hint = "With option protect one is made, and no backup there can have another key "
                       "for its WAL."});
  return keys;
}

/// A WAL archive in the server whose WAL it keeps would never come to an end.
void keep_out_of_history(backup::proto::BackupJobSpec& spec) {
  if (spec.revision_history()) {
    throw Error(sqlstate::kFeatureNotSupported,
                "option revision_history cannot be used with userfile storage")
        .detail("What is written there is WAL again, which would have to be archived, too.");
  }
  spec.set_unprotected(true);
}

/// As in CockroachDB, a job's description names the subdirectory that was chosen.
std::string describe(sql::Backup statement, const std::string& subdirectory) {
  statement.onto =
      sql::Subdirectory{.latest = false, .path = {.value = "/" + subdirectory, .parameter = {}}};
  return sql::print(statement, sql::Redact::Secrets);
}

}  // namespace

PastRequest BackupStatement::past_request(const sql::Expression& as_of,
                                          sql::SessionContext& session, Time now) const {
  return {.as_of = as_of, .database = session.database(), .archives = archives_, .now = now};
}

void BackupStatement::run(const sql::Backup& statement, sql::SessionContext& session,
                          sql::RowSink& sink, const Stop& stop) {
  run_as(statement, sql::print(statement, sql::Redact::Secrets), session, sink, stop);
}

void BackupStatement::run_as(const sql::Backup& statement, std::string text,
                             sql::SessionContext& session, sql::RowSink& sink, const Stop& stop) {
  Detached detached = statement.options.flag("detached") ? Detached::Yes : Detached::No;
  require_detached_in_transaction("BACKUP", detached, session);
  refuse_unsupported(statement);
  if (of_cluster(statement)) require_cluster_privilege(session, ClusterPrivilege::Backup);
  backup::proto::BackupJobSpec spec = make_spec(statement);
  CollectionPlace place = collection_place(statement.into, statement.options, "BACKUP", session);
  for (const std::string& uri : {place.uri, place.incremental_uri}) {
    if (uri.empty()) continue;
    if (of_cluster(statement)) {
      refuse_userfile(stores_, uri, "BACKUP of a whole cluster",
                      "The backup would be a part of what it backs up, and gone with it.");
    } else {
      require_prepared_storage(stores_, uri, session);
    }
    if (leads_to_userfile(stores_, uri)) keep_out_of_history(spec);
  }
  spec.set_user(current_user(session));
  spec.set_local_administrator(session.local_administrator());
  const LockOption lock = lock_option(statement.options, session);
  if (!lock.mode.empty()) {
    // What nobody can remove for years is paid for by whoever owns the storage.
    require_administrator(session, "lock objects");
  }
  spec.set_object_lock(lock.mode);
  spec.set_retain_for_seconds(lock.retain_for_seconds);
  auto [store, located] = open_collection(stores_, place, session, lock.access());
  spec.set_collection_uri(place.uri);
  spec.set_incremental_uri(place.incremental_uri);
  if (!session.server_available()) {
    throw Error(sqlstate::kCannotConnectNow, "cannot take a backup while PostgreSQL is down")
        .hint(
            "Start PostgreSQL, or bring it back with RESTORE. A standby must have hot_standby on.");
  }
  const Time now = clock_.now();
  if (statement.as_of) require_past(*statement.as_of, now);
  if (!of_cluster(statement)) {
    if (spec.revision_history() && is_standby(session)) {
      throw backup::no_scoped_history_on_standby();
    }
    *spec.mutable_scope() = resolve_backup_scope(statement.targets, live_, session, stop);
    limit_to_rights(is_administrator(session), spec);
  }
  if (statement.as_of && !statement.onto) {
    const auto guard = key_guard(statement.options, stores_, session);
    set_past_full(
        past_request(*statement.as_of, session, now),
        {.open_store = [&] { return open_for_user(stores_, spec.collection_uri(), session); },
         .guard = guard.get(),
         .system_identifier = system_identifier(session)},
        spec, stop);
  }
  choose_place(statement, *store, now, spec, sink, stop);
  if (!spec.full().empty()) choose_location(located, spec, *store, viewer_of(session), stop);
  backup::check_spec(spec);
  auto keys = of_cluster(statement)
                  ? choose_keys(statement, spec, *store, stores_, session, stop)
                  : choose_scoped_keys(statement, spec, *store, stores_, session, sink, stop);
  spec.set_keys(collection::serialize_keys(keys));
  if (statement.as_of && statement.onto) {
    store = collection::with_keys(std::move(store), std::move(keys));
    set_past_moment(past_request(*statement.as_of, session, now), *store, spec, stop);
  }

  const jobs::NewJob job = new_job(
      {.type = jobs::kBackupType,
       .description = describe(statement, spec.full().empty() ? spec.subdirectory() : spec.full()),
       .statement = std::move(text)},
      spec, session);
  submit_and_answer(runner_, job, detached, "BACKUP", session, sink, stop);
}

}  // namespace holdfast::statements
