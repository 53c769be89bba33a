#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/stop.h"
#include "io/file_system.h"
#include "manifest.pb.h"
#include "postgres/connection.h"
#include "postgres/wal_scope.h"
#include "restore/layout.h"
#include "restore_job.pb.h"
#include "storage/object_store.h"

namespace holdfast::restore {

/// Between two looks at whether the server is where it is waited for.
inline constexpr std::chrono::milliseconds kServerPollPause{20};

struct WorkshopOptions {
  /// Made with mode 0700 and removed with everything in it.
  std::string directory;
  std::filesystem::path pg_bin;  ///< programs of the backup's major version
  /// The layers of the backup, the full first (read_restorable_chain()).
  std::span<const collection::proto::Manifest> chain;
  /// Null: the backup's end; else WAL up to there was added to the chain's last layer
  /// (add_wal_up_to()). Outlives the workshop.
  const proto::RecoveryTarget* target = nullptr;
  storage::ObjectStore& store;
  io::FileSystem& files;
  std::size_t workers = 1;
};

/// A private PostgreSQL instance on part of a backup, recovered to the backup's end or a moment
/// behind it: reachable through a socket in a directory of mode 0700 only, without archiving,
/// autovacuum, replication or anything else that acts by itself. Nothing in it is durable.
class Workshop {
 public:
  explicit Workshop(WorkshopOptions options);
  /// Stops the server and removes the directory.
  ~Workshop();
  Workshop(const Workshop&) = delete;
  Workshop& operator=(const Workshop&) = delete;

  /// The catalogs of a database (by OID), without the files of users' relations as far as they can
  /// be told: for a look at which files the relations have at the moment. With those of `relations`
  /// (OIDs), of their TOAST and of what inherits from them, as far as they can be told. Call before
  /// start().
  postgres::WalScope catalogs_of(std::uint32_t database, std::set<std::uint32_t> relations,
                                 const Stop& stop);
  /// All that these databases (OIDs) hold but what is made anew from their rows, as far as it can
  /// be told: indexes on users' tables, and materialized views. Nobody plans a query on such a
  /// table before hide_indexes(). Call before start().
  postgres::WalScope rows_of(const std::set<std::uint32_t>& databases, const Stop& stop);
  /// Lays out what is in scope, recovers it, and waits until the server answers in `database`.
  /// May be called again, with another scope. Throws kDataCorrupted unless recovery ended at the
  /// target, if there is one.
  void start(const postgres::WalScope& scope, const std::string& database, const Stop& stop) {
    start(scope, std::vector<std::string>{database}, stop);
  }
  /// The same where it is not known which databases there are at the moment: waits until the first
  /// of these that takes connections answers, and gives its name. Throws kInvalidCatalogName when
  /// none is there.
  std::string start(const postgres::WalScope& scope, const std::vector<std::string>& databases,
                    const Stop& stop);

  /// Stops the server and removes its files, which takes a while; start() may follow.
  void close();
  /// The same for the last time: what fails is tried again by the destructor, and only logged here.
  void end();

  /// How to reach it. Whatever the backup's ALTER ROLE or ALTER DATABASE … SET say does not hold
  /// for libraries, role, search path, event triggers.
  postgres::ConnectOptions connect(const std::string& database) const;
  /// The same for a role without rights: what only superusers may set is the workshop's own then,
  /// or what ALTER ROLE and ALTER DATABASE say. Path and anything else are for the caller to add.
  postgres::ConnectOptions connect_as(const std::string& role, const std::string& database) const;
  /// As connect(), and turns the database's event triggers off. To be called before anything else
  /// is done in that database.
  postgres::Connection open(const std::string& database, const Stop& stop);

  struct EventTrigger {
    std::string name;
    char enabled = 'O';  ///< pg_event_trigger.evtenabled
  };
  /// As they were before open().
  const std::vector<EventTrigger>& event_triggers(const std::string& database) const {
    return event_triggers_.at(database);
  }
  int major() const { return major_; }

  /// The other use: lays out the whole backup, configuration included, recovers it and has the
  /// server shut down there, in recovery. The data directory is then that of a stopped standby, but
  /// for its tablespaces, which lie below the workshop's own directory. `report` is told what is
  /// done.
  void recover_and_stop(const std::function<void(std::string)>& report, const Stop& stop);
  /// After it: recovers the same files as a restore of `layer`, a backup of them, and lets the
  /// server go on. Waits until it answers in one of the databases, and gives that one's name.
  /// Throws kDataCorrupted unless recovery ended where the layer does.
  std::string promote(const collection::proto::Manifest& layer,
                      const std::vector<std::string>& databases, const Stop& stop);
  const std::string& data_directory() const { return data_; }
  /// Those that recovery made, with the locations that they had: in pg_tblspc they are directories,
  /// or links where the backup has them already. One that was dropped again is not there any more.
  const std::vector<collection::proto::Tablespace>& made_tablespaces() const {
    return made_tablespaces_;
  }
  /// Below which recover_and_stop() puts configuration files from outside the data directory.
  std::string outside_directory() const { return options_.directory + "/outside"; }

 private:
  enum class End { Ready, Stopped };
  /// `meanwhile`: what can be done while the files are filled.
  Layout fill(const postgres::WalScope& scope, const Stop& stop,
              const std::function<void(const Layout&, const Stop&)>& meanwhile = {});
  void make_blank_files(const postgres::WalScope& scope);
  std::map<std::uint32_t, std::uint32_t> lay_out_pg_class(const std::set<std::uint32_t>& databases,
                                                          const Stop& stop);
  std::vector<std::string> directories_of(std::uint32_t database) const;
  std::vector<std::string> read_relation(std::uint32_t database, std::uint32_t relfilenode) const;
  void stop_server();
  void configure(const Layout& layout, const Bytes& control) const;
  void start_server(const Stop& stop);
  void fill_whole(const Stop& stop);
  void set_configuration_aside();
  void put_configuration_back();
  void configure_recovery(const collection::proto::Manifest& layer,
                          const proto::RecoveryTarget* target, End end, const Stop& stop);
  void wait_stopped(const Stop& stop);
  void find_superusers(const Stop& stop);
  std::string wait_ready(const std::vector<std::string>& databases, const Stop& stop);
  /// Why the server ended, by its log.
  Error not_recovered() const;
  std::string log_tail() const;
  std::string read_file(const std::string& path) const;

  WorkshopOptions options_;
  int major_;
  std::string data_;
  std::string tablespaces_;
  std::string sockets_;
  std::vector<std::string> superusers_;  ///< names that the bootstrap superuser may have
  std::string superuser_;
  Bytes control_;
  std::optional<Layout> whole_;  ///< what recover_and_stop() laid out
  std::vector<collection::proto::Tablespace> made_tablespaces_;
  std::map<std::string, std::vector<EventTrigger>> event_triggers_;  ///< by database
};

/// Whether a recovered database does without the files (relfilenodes) that Workshop::rows_of()
/// left out, going by pages as they were copied. What recovery made of the catalogs decides.
bool rows_need_none_of(postgres::Connection& workshop,
                       const std::unordered_set<std::uint32_t>& left_out, const Stop& stop);

/// The tables that `condition` (on pg_class c) names look as if they had no indexes from now on:
/// the files of these are not there, and planning a query looks at all that a table has. After
/// pg_dump.
void hide_indexes(postgres::Connection& workshop, std::string_view condition, const Stop& stop);

/// Where the programs of the backup's version are, of these directories and the usual ones. Throws
/// kUndefinedFile.
std::filesystem::path find_server_programs(const std::vector<std::filesystem::path>& directories,
                                           const collection::proto::Manifest& manifest,
                                           const Stop& stop);
/// Databases to try: those that the layer lists, and, unless it is of databases or tables, those
/// that a cluster usually has.
std::vector<std::string> databases_to_try(const collection::proto::Manifest& manifest);

/// Ends and removes one that an earlier process left; fine when there is none.
void remove_workshop_directory(const std::string& directory, io::FileSystem& files);
/// Ends and removes the workshops that an earlier process left below `root`, one directory each.
void remove_workshops(const std::string& root, io::FileSystem& files, const Stop& stop);

}  // namespace holdfast::restore
