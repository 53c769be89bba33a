#include "backup/milestones.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "collection/moment.h"
#include "jobs/status.h"
#include "postgres/connection.h"
#include "postgres/wal_position.h"

namespace holdfast::backup {

namespace {

using collection::Milestone;

/// An archive that has not moved for this long will not do so soon.
constexpr std::chrono::seconds kArchivedPatience{60};

/// Whether the layers of a full, and the WAL behind them in the archive, lead to the milestone.
bool leads_to(storage::ObjectStore& store, const std::string& full, const Milestone& milestone,
              std::uint64_t system_identifier, const Stop& stop) {
  const auto layers =
      collection::read_manifests(store, collection::list_layers(store, full, stop), stop);
  if (layers.empty() || layers.front().instance().system_identifier() != system_identifier) {
    return false;
  }
  try {
    const auto moment =
        collection::MomentFinder(store, layers, stop).behind(milestone.timeline, milestone.lsn);
    return moment.target.has_value();
  } catch (const Error& error) {
    if (error.state() == sqlstate::kInvalidParameterValue) return false;
    throw;
  }
}

}  // namespace

struct Milestones::Archive {
  jobs::JobId job = 0;
  std::string description;
  std::uint64_t system_identifier = 0;
  std::unique_ptr<storage::ObjectStore> store;

  bool can_restore(const Milestone& milestone, const Stop& stop) const {
    const auto fulls = collection::list_fulls(*store, stop);
    // The newest are the ones with the shortest way.
    for (auto full = fulls.rbegin(); full != fulls.rend(); ++full) {
      // Its manifest, which is written last, was there before the milestone.
      if (collection::is_encrypted(*store, *full, stop)) return true;
      if (leads_to(*store, *full, milestone, system_identifier, stop)) return true;
    }
    return false;
  }
};

Milestones::Milestones(WalArchives& archives, WalArchiveEnvironment environment)
    : archives_(archives), environment_(std::move(environment)) {}

std::vector<Milestones::Archive> Milestones::full_archives() const {
  std::vector<Archive> found;
  for (const auto& archive : archives_.list()) {
    if (archive.mode != WalArchiveMode::Full || jobs::is_terminal(archive.job.status)) continue;
    auto store = collection::with_keys(
        environment_.stores->open_store(archive.collection_uri, {.lock = archive.lock}),
        {.chain = std::nullopt, .wal = archive.key});
    std::string description = store->description();
    found.push_back({.job = archive.job.id,
                     .description = std::move(description),
                     .system_identifier = archive.system_identifier,
                     .store = std::move(store)});
  }
  return found;
}

Milestone Milestones::make_restore_point(const Wanted& wanted, const Stop& stop) const {
  auto connection = postgres::Connection::open({.conninfo = environment_.conninfo()}, stop);
  const auto position = postgres::wal_position(connection, {}, stop);
  if (!position || !position->inserted) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState, "cannot create a milestone on a standby")
        .detail("A restore point is a WAL record, which only a primary writes.");
  }
  connection.query("BEGIN", stop);
  // No reason to wait for other servers: what counts is in the archive.
  connection.query("SET LOCAL synchronous_commit = local", stop);
  // A restore point is not flushed by itself; the commit of a transaction that has an id is.
  const auto row = connection.query(
      "SELECT pg_catalog.pg_create_restore_point($1), pg_catalog.txid_current(),"
      " (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())"
      " OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8",
      {wanted.name}, stop);
  connection.query("COMMIT", stop);
  const auto lsn = postgres::parse_lsn(row.text(0, 0));
  if (!lsn) {
    throw Error(sqlstate::kInternalError, "PostgreSQL does not say where its restore point is");
  }
  return {.name = wanted.name,
          .database = wanted.database,
          .user = wanted.user,
          .time = time_from_us(row.integer(0, 2)),
          .timeline = position->timeline,
          .lsn = *lsn};
}

Milestones::Created Milestones::create(const Wanted& wanted, const Stop& stop) {
  const auto archives = full_archives();
  if (archives.empty()) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "cannot create a milestone: no collection has a full WAL archive")
        .detail("A milestone is a place in the WAL, which must be kept to restore to it.")
        .hint(
            "BACKUP INTO 'uri' WITH revision_history takes a backup and starts an archive; CREATE "
            "WAL ARCHIVE IN 'uri' starts one alone.");
  }
  if (!wanted.may_move_others) {
    for (const Archive& archive : archives) {
      for (const auto& there :
           collection::list_milestones(*archive.store, archive.system_identifier, stop)) {
        if (there.name != wanted.name || there.database != wanted.database ||
            there.user == wanted.user) {
          continue;
        }
        throw Error(sqlstate::kInsufficientPrivilege,
                    fmt::format("milestone \"{}\" belongs to user {}", wanted.name, there.user))
            .hint("Choose another name, or have an administrator move it.");
      }
    }
  }
  Created created{.milestone = make_restore_point(wanted, stop), .without_backup = {}};
  for (const Archive& archive : archives) {
    try {
      archives_.wait_until_archived(archive.job, created.milestone.timeline, created.milestone.lsn,
                                    kArchivedPatience, stop);
    } catch (Error& error) {
      error.at(fmt::format("could not make milestone \"{}\" durable in {}", wanted.name,
                           archive.description));
      throw;
    }
  }
  std::vector<const Archive*> good;
  for (const Archive& archive : archives) {
    if (archive.can_restore(created.milestone, stop)) {
      good.push_back(&archive);
    } else {
      created.without_backup.push_back(archive.description);
    }
  }
  if (good.empty()) {
    throw Error(
        sqlstate::kObjectNotInPrerequisiteState,
        fmt::format("milestone \"{}\" could not be restored: no backup ends before it, with "
                    "all WAL from there on in the archive",
                    wanted.name))
        .detail(fmt::format("Looked for in {}.", fmt::join(created.without_backup, ", ")))
        .hint("Take a backup with BACKUP INTO … WITH revision_history, then create it again.");
  }
  for (const Archive* archive : good) {
    collection::put_milestone(*archive->store, archive->system_identifier, created.milestone, stop);
  }
  return created;
}

std::vector<Milestones::Listed> Milestones::list(const Stop& stop) const {
  std::vector<Listed> all;
  for (const Archive& archive : full_archives()) {
    for (auto& milestone :
         collection::list_milestones(*archive.store, archive.system_identifier, stop)) {
      all.push_back({.milestone = std::move(milestone), .collection_uri = archive.description});
    }
  }
  return all;
}

}  // namespace holdfast::backup
