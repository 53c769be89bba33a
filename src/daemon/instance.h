#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/stop.h"
#include "daemon/configuration.h"
#include "pgwire/upstream.h"
#include "postgres/checks.h"
#include "restore/postgres_instance.h"
#include "restore/restore_job.h"
#include "state/database.h"

namespace holdfast::daemon {

/// The PostgreSQL instance that this daemon looks after: where it listens, whether it runs, how it
/// is stopped and started. Thread-safe. What was learned from a running server is remembered in the
/// store, so that a restore finds the right programs when the data directory is gone.
class Instance final : public restore::TargetInstance {
 public:
  Instance(const Configuration& configuration, state::Database& database);
  ~Instance() override;

  /// Checks version, data directory, system identifier and privileges, at start. With the server
  /// down or not letting holdfast in, or the data directory gone or damaged, it only logs what that
  /// means; the check is then made as soon as holdfast gets in. Throws Error with a remedy when
  /// holdfast cannot work with this instance.
  void check(const Stop& stop);
  /// Refreshes what is known of a running server: its version and how it lets local users in. For a
  /// thread of the daemon's, every few seconds.
  void observe(const Stop& stop);

  /// How to connect for holdfast's own work. Throws kCannotConnectNow while the server is down.
  std::string conninfo();
  /// Where clients' sessions go; absent while the server is down.
  std::optional<pgwire::UpstreamTarget> target();
  /// The version last seen, in this or an earlier process; "0" when there was none.
  std::string last_server_version();
  /// Directories of PostgreSQL's programs: those that --pg-bin names and the server's own.
  std::vector<std::filesystem::path> programs(const Stop& stop);

  std::string data_directory() const override { return configuration_.pgdata; }
  int binaries_major_version() override;
  bool running() override;
  void stop(const Stop& stop) override;
  void start(const Stop& stop) override;
  std::optional<std::string> wait_ready(std::chrono::milliseconds timeout,
                                        const Stop& stop) override;
  std::vector<std::string> user_objects(const Stop& stop) override;

 private:
  /// Throws kConfigFileError, with what is missing, unless holdfast can work with this server.
  void require_suitable(postgres::Connection& connection, const Stop& stop);
  void report_facts(const postgres::ServerFacts& facts);
  postgres::ConnectOptions connect_options();
  postgres::InstanceOptions instance_options(const Stop& stop);
  restore::PostgresInstance& server(const Stop& stop);
  std::filesystem::path pg_bin(const Stop& stop);

  const Configuration& configuration_;
  state::Database& database_;
  std::atomic<bool> suitable_ = false;  // require_suitable() has succeeded in this process
  Mutex mutex_;
  // Made while the server's files are there, so that it still knows how to start a server whose
  // files were lost; never replaced after that.
  std::unique_ptr<restore::PostgresInstance> server_ HF_GUARDED_BY(mutex_);
  bool socket_has_no_peer_rule_ HF_GUARDED_BY(mutex_) = false;
  std::int64_t observed_start_time_ HF_GUARDED_BY(mutex_) = 0;
  std::string server_version_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::daemon
