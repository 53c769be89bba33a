#include "backup/milestones.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <optional>
#include <utility>

#include "backup_job.pb.h"
#include "base/clock.h"
#include "base/error.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "collection/moment.h"
#include "jobs/status.h"
#include "postgres/connection.h"
#include "postgres/wal_position.h"
#include "storage/external_uri.h"

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
  std::string name;  ///< for the user
  std::string uri;
  std::uint64_t system_identifier = 0;
  std::optional<collection::CollectionKeys::Wal> key;
  std::unique_ptr<storage::ObjectStore> store;
};

enum class Milestones::Leads { No, Yes, Unknown };

Milestones::Milestones(WalArchives& archives, const jobs::Registry& registry,
                       WalArchiveEnvironment environment)
    : archives_(archives), registry_(registry), environment_(std::move(environment)) {}

std::string collection_name(const std::string& uri, const std::string& description,
                            bool administrator) {
  if (storage::is_external(uri)) return uri;
  if (administrator) return description;
  return uri.substr(0, uri.find(':')) + "://…";
}

std::vector<Milestones::Archive> Milestones::full_archives(bool administrator) const {
  std::vector<Archive> found;
  for (const auto& archive : archives_.list()) {
    if (archive.mode != WalArchiveMode::Full || jobs::is_terminal(archive.job.status)) continue;
    auto store = collection::with_keys(
        environment_.stores->open_store(archive.collection_uri, {.lock = archive.lock}),
        {.chain = std::nullopt, .wal = archive.key});
    std::string name = collection_name(archive.collection_uri, store->description(), administrator);
    found.push_back({.job = archive.job.id,
                     .name = std::move(name),
                     .uri = archive.collection_uri,
                     .system_identifier = archive.system_identifier,
                     .key = archive.key,
                     .store = std::move(store)});
  }
  return found;
}

/// Of the chains in that collection which this daemon has backed up, by their fulls.
std::map<std::string, collection::CollectionKeys::Chain> Milestones::keys_of(
    const std::string& uri) const {
  const std::string slot = archive_slot_name(uri);
  std::map<std::string, collection::CollectionKeys::Chain> keys;
  for (const jobs::Job& job : registry_.list({.type = std::string(jobs::kBackupType)})) {
    proto::BackupJobSpec spec;
    const Bytes bytes = registry_.specification(job.id);
    if (!spec.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) continue;
    if (spec.keys().empty() || archive_slot_name(spec.collection_uri()) != slot) continue;
    auto known = collection::parse_keys(spec.keys());
    if (known.chain) keys.insert_or_assign(known.chain->full, std::move(*known.chain));
  }
  return keys;
}

Milestones::Leads Milestones::can_restore(const Archive& archive, const Milestone& milestone,
                                          const Stop& stop) const {
  const auto fulls = collection::list_fulls(*archive.store, stop);
  std::optional<std::map<std::string, collection::CollectionKeys::Chain>> keys;
  Leads leads = Leads::No;
  // The newest are the ones with the shortest way.
  for (auto full = fulls.rbegin(); full != fulls.rend(); ++full) {
    const auto mark = collection::read_chain_mark(*archive.store, *full, stop);
    if (!mark) {
      if (leads_to(*archive.store, *full, milestone, archive.system_identifier, stop)) {
        return Leads::Yes;
      }
      continue;
    }
    // Another server's, or one of databases or tables, leads nowhere in this archive.
    if (mark->own_wal || mark->system_identifier != archive.system_identifier) continue;
    if (!keys) keys = keys_of(archive.uri);
    const auto known = keys->find(*full);
    if (known == keys->end()) {
      leads = Leads::Unknown;
      continue;
    }
    const auto store = collection::with_keys(environment_.stores->open_store(archive.uri),
                                             {.chain = known->second, .wal = archive.key});
    if (leads_to(*store, *full, milestone, archive.system_identifier, stop)) return Leads::Yes;
  }
  return leads;
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
  const auto archives = full_archives(wanted.administrator);
  if (archives.empty()) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "cannot create a milestone: no collection has a full WAL archive")
        .detail("A milestone is a place in the WAL, which must be kept to restore to it.")
        .hint(
            "BACKUP INTO 'uri' WITH revision_history takes a backup and starts an archive; CREATE "
            "WAL ARCHIVE IN 'uri' starts one alone.");
  }
  if (!wanted.administrator) {
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
  Created created{
      .milestone = make_restore_point(wanted, stop), .without_backup = {}, .not_tried = {}};
  for (const Archive& archive : archives) {
    try {
      archives_.wait_until_archived(archive.job, created.milestone.timeline, created.milestone.lsn,
                                    kArchivedPatience, stop);
    } catch (Error& error) {
      error.at(
          fmt::format("could not make milestone \"{}\" durable in {}", wanted.name, archive.name));
      throw;
    }
  }
  std::vector<const Archive*> good;
  for (const Archive& archive : archives) {
    const Leads leads = can_restore(archive, created.milestone, stop);
    if (leads == Leads::No) {
      created.without_backup.push_back(archive.name);
      continue;
    }
    good.push_back(&archive);
    if (leads == Leads::Unknown) created.not_tried.push_back(archive.name);
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

std::vector<Milestones::Listed> Milestones::list(bool administrator, const Stop& stop) const {
  std::vector<Listed> all;
  for (const Archive& archive : full_archives(administrator)) {
    for (auto& milestone :
         collection::list_milestones(*archive.store, archive.system_identifier, stop)) {
      all.push_back({.milestone = std::move(milestone), .collection_uri = archive.name});
    }
  }
  return all;
}

}  // namespace holdfast::backup
