#include "daemon/daemon.h"
#include "daemon/past_clusters.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <thread>

#include "backup/backup_job.h"
#include "backup/milestones.h"
#include "backup/wal_archives.h"
#include "base/error.h"
#include "base/log.h"
#include "base/version.h"
#include "console/http_server.h"
#include "daemon/background.h"
#include "daemon/backup_metrics.h"
#include "daemon/instance.h"
#include "daemon/job_authorization.h"
#include "daemon/metrics.h"
#include "daemon/schedule_launcher.h"
#include "daemon/userfile_store.h"
#include "jobs/registry.h"
#include "jobs/runner.h"
#include "pgwire/server.h"
#include "restore/object_restore_job.h"
#include "restore/restore_job.h"
#include "restore/verify_job.h"
#include "restore/workshop.h"
#include "retention/restore_guard.h"
#include "retention/retention_job.h"
#include "schedule/scheduler.h"
#include "state/database.h"
#include "state/external_connections.h"
#include "state/history.h"
#include "statements/alter_backup.h"
#include "statements/backup_statement.h"
#include "statements/delete_backups.h"
#include "statements/dispatcher.h"
#include "statements/external_connection_statements.h"
#include "statements/history_statements.h"
#include "statements/job_statements.h"
#include "statements/milestone_statements.h"
#include "statements/restore_statement.h"
#include "statements/schedule_services.h"
#include "statements/show_backup_statement.h"
#include "statements/singlestore_statements.h"
#include "statements/verify_statement.h"
#include "statements/wal_archive_statements.h"
#include "storage/external_uri.h"
#include "storage/kms.h"
#include "storage/open_store.h"

namespace holdfast::daemon {

namespace {

constexpr std::chrono::seconds kObserveInterval{2};

/// One way to open storage, for statements and for both engines.
class StoreFactory final : public statements::Stores, public backup::StoreOpener {
 public:
  /// `connect` reaches the instance, whose tables userfile storage is.
  StoreFactory(const Configuration& configuration, const state::ExternalConnections& connections,
               const std::function<postgres::ConnectOptions()>& connect)
      : config_{.external_io_dir = configuration.external_io_dir,
                .node_id = configuration.node_id,
                .ca_file = configuration.storage_ca_file,
                .disable_implicit_credentials = configuration.disable_implicit_credentials,
                .disable_http = configuration.disable_http,
                .open_userfile =
                    [connect](const storage::UserfilePlace& place) {
                      return open_userfile_store(place, {.connect = connect});
                    }},
        connections_(connections) {
    const auto reads = parse_storage_rates(configuration.storage_read_rate, "--storage-read-rate");
    const auto writes =
        parse_storage_rates(configuration.storage_write_rate, "--storage-write-rate");
    const auto rate_of = [](const auto& rates, const std::string& driver) {
      const auto found = rates.find(driver);
      return found == rates.end() ? 0 : found->second;
    };
    for (const auto* rates : {&reads, &writes}) {
      for (const auto& [driver, rate] : *rates) {
        config_.rate_limits[driver] =
            std::make_shared<storage::RateLimits>(rate_of(reads, driver), rate_of(writes, driver));
      }
    }
  }

  std::unique_ptr<storage::ObjectStore> open(const std::string& uri,
                                             const storage::StoreAccess& access) override {
    return storage::open_store(resolve(uri), config_, access);
  }
  std::unique_ptr<storage::ObjectStore> open_store(std::string_view uri,
                                                   const storage::StoreAccess& access) override {
    return open(std::string(uri), access);
  }
  std::unique_ptr<storage::KmsKey> open_kms(const std::string& uri) override {
    return storage::open_kms(resolve(uri), config_);
  }
  const state::ExternalConnections* connections() const override { return &connections_; }

 private:
  /// Jobs and schedules keep external:// URIs as they are, so that they follow when the connection
  /// is altered.
  std::string resolve(const std::string& uri) const {
    if (!storage::is_external(uri)) return uri;
    const storage::ExternalUri external = storage::parse_external_uri(uri);
    const auto connection = connections_.find(external.name);
    if (!connection) {
      throw Error(sqlstate::kUndefinedObject,
                  fmt::format("external connection \"{}\" does not exist", external.name));
    }
    return storage::resolve_external_uri(external, connection->uri);
  }

  storage::StorageConfig config_;
  const state::ExternalConnections& connections_;
};

/// What the front door asks about PostgreSQL.
class FrontDoorUpstream final : public pgwire::Upstream {
 public:
  FrontDoorUpstream(Instance& instance, const jobs::Registry& registry)
      : instance_(instance), registry_(registry) {}

  std::optional<pgwire::UpstreamTarget> target() override { return instance_.target(); }
  std::string last_server_version() override { return instance_.last_server_version(); }
  std::string down_reason() override {
    auto restores =
        registry_.list({.type = std::string(jobs::kRestoreType),
                        .statuses = {{jobs::JobStatus::Running, jobs::JobStatus::Reverting}}});
    if (restores.empty()) return "";
    return fmt::format("RESTORE job {} is at work.", restores.front().id);
  }

 private:
  Instance& instance_;
  const jobs::Registry& registry_;
};

std::int64_t node_number(const std::string& node_id) {
  std::int64_t number = 0;
  std::from_chars(node_id.data(), node_id.data() + node_id.size(), number);
  return number;
}

/// holdfast reads the files of PostgreSQL and writes what PostgreSQL will own.
void check_user(const std::string& pgdata) {
  if (::geteuid() == 0) {
    throw Error(sqlstate::kConfigFileError, "holdfast does not run as root")
        .hint(
            "Run it as the operating system user that owns the data directory, such as postgres: "
            "runuser -u postgres -- holdfast start …");
  }
  struct stat info;
  if (::stat(pgdata.c_str(), &info) != 0) return;  // gone: a restore brings it back
  if (info.st_uid != ::geteuid()) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("data directory \"{}\" belongs to another user", pgdata))
        .detail(fmt::format("It belongs to user id {}, and holdfast runs as {}.", info.st_uid,
                            ::geteuid()))
        .hint("Run holdfast as the owner of the data directory.");
  }
}

/// `host`, or `all` where it means every interface.
std::string in_words(const std::string& host, std::string_view all) {
  return host == "*" ? std::string(all) : host;
}

void create_directory(const std::string& path, std::string_view purpose) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("could not create {} \"{}\": {}", purpose, path, error.message()))
        .hint("Create it and give it to the user that holdfast runs as.");
  }
}

}  // namespace

struct Daemon::Parts {
  Parts(Configuration given, const Stop& stop);
  ~Parts();

  backup::WalArchiveEnvironment archive_environment();
  retention::RetentionEnvironment retention_environment();
  void register_jobs();
  void register_statements();
  void start_listening();
  /// At work, or waiting to go on; not one that nobody knows.
  bool is_unfinished(jobs::JobId id) {
    const auto job = registry.find(id);
    return job && !jobs::is_terminal(job->status);
  }
  /// Where restores of single objects have their private instances.
  std::string workshops() const { return configuration.store + "/workshop"; }

  Configuration configuration;
  state::Database database;
  jobs::Registry registry;
  jobs::Runner runner;
  state::ExternalConnections connections;
  StoreFactory stores;
  Instance instance;
  backup::WalArchiveBoard archive_board;
  backup::WalArchives archives;
  backup::Milestones milestones;
  WorkshopClusters past_clusters;
  FrontDoorUpstream upstream;
  statements::Dispatcher dispatcher;
  schedule::Schedules schedules;
  state::History history;
  ScheduleLauncher launcher;
  schedule::Scheduler scheduler;
  std::unique_ptr<pgwire::Server> front_door;
  std::unique_ptr<console::HttpServer> http;
  StopSource observer_stop;
  std::jthread observer;
};

Daemon::Parts::Parts(Configuration given, const Stop& stop)
    : configuration(std::move(given)),
      database(configuration.store),
      registry(database, node_number(configuration.node_id)),
      runner(registry, {.concurrency = configuration.jobs_concurrency,
                        .pause_points = configuration.pause_points}),
      connections(database),
      stores(configuration, connections,
             [this] { return postgres::ConnectOptions{.conninfo = instance.conninfo()}; }),
      instance(configuration, database),
      archives(registry, runner, archive_environment()),
      milestones(archives, registry, archive_environment()),
      past_clusters([this](const Stop& until) { return instance.programs(until); }, workshops()),
      upstream(instance, registry),
      schedules(database, node_number(configuration.node_id)),
      history(database),
      launcher(instance, registry, runner, history, dispatcher),
      scheduler(schedules, launcher, Clock::system()) {
  create_directory(configuration.external_io_dir, "external I/O directory");
  create_directory(configuration.socket_dir, "socket directory");
  instance.check(stop);
  restore::remove_workshops(workshops(), io::FileSystem::real(), stop);
  register_jobs();
  register_statements();
  // Listening comes before the jobs of an earlier process: an address that is taken must not cost
  // them an attempt.
  start_listening();
  runner.start();
  scheduler.start();
  observer = std::jthread([this] {
    Stop until = observer_stop.stop();
    try {
      for (;;) {
        try {
          instance.observe(until);
        } catch (const Error& error) {
          log::debug("could not look at PostgreSQL: {}", error.message());
        }
        until.sleep(kObserveInterval);
      }
    } catch (const Stopped&) {
    }
  });
}

Daemon::Parts::~Parts() {
  scheduler.shutdown();
  observer_stop.request(StopReason::Shutdown);
  if (observer.joinable()) observer.join();
  http.reset();
  // Jobs first: sessions that wait for one are then answered before they are closed.
  runner.shutdown();
  if (front_door) front_door->stop();
}

backup::WalArchiveEnvironment Daemon::Parts::archive_environment() {
  return {.stores = &stores,
          .conninfo = [this] { return instance.conninfo(); },
          .data_directory = configuration.pgdata,
          .database = &database,
          .board = &archive_board,
          .flush_interval = std::chrono::milliseconds(configuration.wal_flush_interval_ms),
          .keep_limit = configuration.wal_keep_limit};
}

void Daemon::Parts::register_jobs() {
  runner.register_kind(
      std::string(jobs::kWalArchiveType),
      {.make = [this] { return std::make_unique<backup::WalArchiveJob>(archive_environment()); },
       .slot = jobs::Slot::None});
  runner.register_kind(std::string(jobs::kDeleteBackupsType), {.make = [this] {
                         return std::make_unique<retention::RetentionJob>(retention_environment());
                       }});
  runner.register_kind(
      std::string(jobs::kBackupType), {.make = [this] {
        return std::make_unique<backup::BackupJob>(backup::BackupEnvironment{
            .stores = &stores,
            .conninfo = [this] { return instance.conninfo(); },
            .data_directory = configuration.pgdata,
            .spool_directory = configuration.store + "/spool",
            .node_id = configuration.node_id,
            .locality = configuration.locality,
            .holdfast_version = std::string(kVersion),
            .has_unfinished_job = [this](jobs::JobId id) { return is_unfinished(id); },
            .archives = &archives,
            .past = &past_clusters,
            .wal_keep_limit = configuration.wal_keep_limit,
            .authorize =
                [this](auto& spec, const Stop& until) {
                  authorize_backup(instance, stores, spec, until);
                }});
      }});
  runner.register_kind(
      std::string(jobs::kRestoreType),
      {.make =
           [this] {
             const auto open_store = [this](const std::string& uri,
                                            const storage::StoreAccess& access,
                                            const Stop&) { return stores.open(uri, access); };
             auto body = std::make_unique<restore::AnyRestoreJob>(
                 restore::RestoreServices{
                     .open_store = open_store,
                     .instance = &instance,
                     .is_unfinished = [this](jobs::JobId id) { return is_unfinished(id); }},
                 restore::ObjectRestoreServices{
                     .open_store = open_store,
                     .live =
                         [this] {
                           return postgres::ConnectOptions{.conninfo = instance.conninfo()};
                         },
                     .programs = [this](const Stop& until) { return instance.programs(until); },
                     .authorize =
                         [this](auto& spec, const Stop& until) {
                           authorize_restore(instance, stores, spec, until);
                         },
                     .workshops = workshops()});
             return std::make_unique<retention::GuardedRestore>(std::move(body), registry);
           },
       // Whoever makes room can let it go on; failing would throw away what is already in place.
       .on_disk_full = jobs::OnDiskFull::Pause});
  runner.register_kind(
      std::string(jobs::kVerifyType), {.make = [this] {
        auto body = std::make_unique<restore::VerifyJob>(restore::ObjectRestoreServices{
            .open_store = [this](const std::string& uri, const storage::StoreAccess& access,
                                 const Stop&) { return stores.open(uri, access); },
            .live = {},
            .programs = [this](const Stop& until) { return instance.programs(until); },
            .authorize =
                [this](auto& spec, const Stop& until) {
                  authorize_verification(instance, stores, spec, until);
                },
            .workshops = workshops()});
        return std::make_unique<retention::GuardedRestore>(std::move(body), registry);
      }});
}

retention::RetentionEnvironment Daemon::Parts::retention_environment() {
  return {.stores = &stores, .registry = &registry};
}

void Daemon::Parts::register_statements() {
  const Clock& clock = Clock::system();
  auto backup = std::make_unique<statements::BackupStatement>(
      stores, runner, clock,
      [this] { return postgres::ConnectOptions{.conninfo = instance.conninfo()}; }, &archives);
  auto restore = std::make_unique<statements::RestoreStatement>(stores, runner, instance);
  statements::add_singlestore_statements(dispatcher,
                                         {.stores = stores,
                                          .backup = *backup,
                                          .restore = *restore,
                                          .history = history,
                                          .external_io_dir = configuration.external_io_dir});
  dispatcher.add<sql::Backup>(std::move(backup));
  dispatcher.add<sql::Restore>(std::move(restore));
  dispatcher.add<sql::VerifyBackup>(
      std::make_unique<statements::VerifyStatement>(stores, registry, runner));
  dispatcher.add<sql::ShowBackups>(std::make_unique<statements::ShowBackupsStatement>(stores));
  dispatcher.add<sql::ShowBackup>(std::make_unique<statements::ShowBackupStatement>(
      stores, restore::WorkshopServices{
                  .programs = [this](const Stop& until) { return instance.programs(until); },
                  .root = workshops()}));
  dispatcher.add<sql::AlterBackupKeys>(std::make_unique<statements::AlterBackupStatement>(stores));
  statements::add_job_statements(dispatcher, registry, runner);
  statements::add_external_connection_statements(dispatcher, {.connections = &connections,
                                                              .stores = &stores,
                                                              .node_id = configuration.node_id,
                                                              .locality = configuration.locality});
  statements::add_history_statements(
      dispatcher, {.history = history, .registry = registry, .milestones = milestones});
  statements::add_milestone_statements(dispatcher, stores, milestones, clock);
  statements::add_schedule_statements(dispatcher, {.schedules = &schedules,
                                                   .registry = &registry,
                                                   .stores = &stores,
                                                   .statements = &dispatcher,
                                                   .wake = [this] { scheduler.wake(); }});
  statements::add_wal_archive_statements(dispatcher, stores, archives);
  dispatcher.add<sql::DeleteBackups>(std::make_unique<statements::DeleteBackupsStatement>(
      stores, registry, runner, retention_environment()));
}

void Daemon::Parts::start_listening() {
  const net::HostPort listen = parse_address(configuration.listen, "--listen");
  front_door = std::make_unique<pgwire::Server>(
      pgwire::ServerConfig{.listen_host = listen.host,
                           .port = listen.port,
                           .socket_directory = configuration.socket_dir,
                           .tls_certificate_file = configuration.tls_cert,
                           .tls_key_file = configuration.tls_key},
      upstream, dispatcher);
  front_door->start();
  if (configuration.http != "none") {
    const net::HostPort address = parse_address(configuration.http, "--http");
    http = std::make_unique<console::HttpServer>(
        console::HttpAddress{.host = in_words(address.host, "0.0.0.0"), .port = address.port},
        console::HttpPages{.health = [this] { return health(instance); },
                           .metrics =
                               [this] {
                                 return metrics_text(registry, instance, archives) +
                                        backup_metrics(schedules, history, Clock::system().now());
                               }});
  }
}

Daemon::Daemon(Configuration configuration, const Stop& stop)
    : parts_(std::make_unique<Parts>(std::move(configuration), stop)) {}

Daemon::~Daemon() = default;

std::string Daemon::how_to_connect() const {
  const Configuration& configuration = parts_->configuration;
  const std::string host =
      in_words(parse_address(configuration.listen, "--listen").host, "localhost");
  return fmt::format("psql -h {} -p {}, or, as the local administrator, psql -h {} -p {}", host,
                     parts_->front_door->port(), configuration.socket_dir,
                     parts_->front_door->port());
}

namespace {

/// SIGTERM and SIGINT end the daemon. They are blocked in every thread (this one first, before
/// others exist) and fetched by sigwait. SIGHUP is, for a daemon without a terminal, nothing.
sigset_t block_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGHUP, SIG_IGN);
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

std::string explain(const Error& error) {
  std::string text = fmt::format("holdfast: {}\n", error.message());
  if (!error.detail().empty()) text += fmt::format("detail: {}\n", error.detail());
  if (!error.hint().empty()) text += fmt::format("hint: {}\n", error.hint());
  return text;
}

}  // namespace

int run_daemon(Configuration configuration) {
  std::optional<Background> background;
  try {
    configuration.complete();
    check_user(configuration.pgdata);
    create_directory(configuration.store, "store");
    ::chmod(configuration.store.c_str(), 0700);
    if (configuration.background) {
      background = Background::detach(configuration.log_file);
    } else if (!configuration.log_file.empty()) {
      redirect_output(configuration.log_file);
    }
    sigset_t signals = block_signals();
    Daemon daemon(configuration, Stop::never());
    std::optional<PidFile> pid_file;
    if (!configuration.pid_file.empty()) pid_file.emplace(configuration.pid_file);
    log::info("holdfast {} is ready: {}", kVersion, daemon.how_to_connect());
    if (background) background->ready();

    int number = 0;
    ::sigwait(&signals, &number);
    log::info("received {}, stopping; jobs that run go on at the next start",
              number == SIGTERM ? "SIGTERM" : "SIGINT");
  } catch (const Error& error) {
    std::string text = explain(error);
    std::fputs(text.c_str(), stderr);
    if (background) background->failed(text);
    return 1;
  }
  log::info("stopped");
  return 0;
}

}  // namespace holdfast::daemon
