#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/stop.h"
#include "io/file_system.h"
#include "jobs/job.h"
#include "manifest.pb.h"
#include "postgres/connection.h"
#include "restore/known_files.h"
#include "restore/step_log.h"
#include "restore/workshop.h"
#include "restore_job.pb.h"
#include "storage/object_store.h"
#include "storage/store_access.h"

namespace holdfast::restore {

/// What restoring databases, tables and roles needs from the daemon. Everything outlives the job.
struct ObjectRestoreServices {
  std::function<std::unique_ptr<storage::ObjectStore>(
      const std::string& uri, const storage::StoreAccess& access, const Stop& stop)>
      open_store;
  /// How to reach the live server. Throws kCannotConnectNow while it is down.
  std::function<postgres::ConnectOptions()> live;
  /// Directories of PostgreSQL programs that the user named, and the live server's.
  std::function<std::vector<std::filesystem::path>(const Stop& stop)> programs;
  /// Throws kInsufficientPrivilege unless the user of the specification may (still) have it done,
  /// and brings what it says about his rights up to date.
  std::function<void(proto::RestoreJobSpec& spec, const Stop& stop)> authorize;
  /// A workshop is a directory below this one, named after its job.
  std::string workshops;
  io::FileSystem* files = &io::FileSystem::real();
};

/// One run of a job that restores databases or tables: what its parts share.
struct ObjectRestoreRun {
  const ObjectRestoreServices& services;
  jobs::JobContext& job;
  StepLog& steps;
  const proto::ObjectRestoreSpec& spec;
  proto::ObjectRestoreCheckpoint& checkpoint;
  std::size_t workers = 1;
  int live_major = 0;
  /// pg_dump and pg_restore are here.
  std::filesystem::path dump_programs{};
  /// Where the moment lies in a chain of databases or tables.
  Between between{};
  /// Saves the checkpoint that this one is part of; absent: it is the job's own.
  std::function<void()> save{};

  const Stop& stop() const { return job.stop(); }
  /// The live server, in `database`; the connection's own database when that is empty.
  postgres::Connection open_live(const std::string& database) const;
  postgres::ConnectOptions live(const std::string& database) const;
  /// What a job builds is called this until it is complete: part of it cannot be guessed.
  std::string hidden_name(std::size_t number) const;
  void save_checkpoint() const;
};

/// The application_name of the job's sessions.
std::string session_name(jobs::JobId job);

/// Ends the sessions in the live server that an earlier process of the job left behind; programs
/// that it started go on after it was killed. Of holdfast's own role only: anybody can take a name.
void end_sessions(const ObjectRestoreRun& run, postgres::Connection& live);

/// Where what a job has built is, going by what the checkpoint lists.
enum class Built {
  Hidden,  ///< all of it, under its hidden names
  Final,   ///< the last transaction was committed
  Partly,  ///< that of some databases; those of the others can still be
  Gone     ///< somebody else dropped or renamed it
};

/// What the two kinds of objects do differently. Each step may be repeated from build() on.
class ObjectRestore {
 public:
  virtual ~ObjectRestore() = default;
  /// Whether the names are free, and what else can be found out in the live server beforehand.
  virtual void check_live() = 0;
  /// Builds everything under hidden names, out of the workshop. Gives the number of rows.
  virtual std::int64_t build(Workshop& workshop) = 0;
  /// One transaction: everything gets its name, or nothing. Of tables of several databases one
  /// for each, as close together as PostgreSQL permits; what was committed already stays.
  virtual void finish() = 0;
  /// Removes what the checkpoint says that build() made, and that holdfast's own role owns.
  virtual void remove_hidden() = 0;
  virtual Built built() = 0;
};

std::unique_ptr<ObjectRestore> make_database_restore(const ObjectRestoreRun& run,
                                                     const collection::proto::Manifest& manifest);
std::unique_ptr<ObjectRestore> make_table_restore(const ObjectRestoreRun& run,
                                                  const collection::proto::Manifest& manifest);
std::unique_ptr<ObjectRestore> make_users_restore(const ObjectRestoreRun& run,
                                                  const collection::proto::Manifest& manifest);

/// The OID that a database had when the backup listed it. Throws kInvalidCatalogName when the
/// backup has none of that name.
std::uint32_t database_oid(const collection::proto::Manifest& manifest, const std::string& name);

}  // namespace holdfast::restore
