#include "daemon/instance.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/log.h"
#include "postgres/instance.h"
#include "postgres/orphan_postmaster.h"
#include "postgres/programs.h"

namespace holdfast::daemon {

namespace {

/// Facts kept in the store between runs.
constexpr const char* kPgBinSetting = "instance.pg_bin";
constexpr const char* kVersionSetting = "instance.server_version";

// A shutdown checkpoint on a large shared_buffers takes its time, and so does crash recovery at
// start.
constexpr std::chrono::milliseconds kStopTimeout = std::chrono::hours(1);
constexpr std::chrono::milliseconds kStartTimeout = std::chrono::hours(1);

pgwire::SslMode ssl_mode(const std::string& name) {
  static const std::map<std::string, pgwire::SslMode, std::less<>> kModes = {
      {"disable", pgwire::SslMode::Disable},    {"allow", pgwire::SslMode::Prefer},
      {"prefer", pgwire::SslMode::Prefer},      {"require", pgwire::SslMode::Require},
      {"verify-ca", pgwire::SslMode::VerifyCa}, {"verify-full", pgwire::SslMode::VerifyFull}};
  auto found = kModes.find(name);
  if (found == kModes.end()) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("invalid sslmode in --pg-url: \"{}\"", name));
  }
  return found->second;
}

/// The front door's view of --pg-url.
pgwire::UpstreamTarget target_of(const std::string& url) {
  std::map<std::string, std::string> parameters = postgres::conninfo_parameters(url);
  pgwire::UpstreamTarget target;
  std::string host = parameters["host"];
  if (host.starts_with('/')) {
    target.socket_directory = host;
  } else {
    target.host = parameters["hostaddr"].empty() ? host : parameters["hostaddr"];
  }
  if (!parameters["port"].empty()) {
    target.port = parse_address("x:" + parameters["port"], "the port of --pg-url").port;
  }
  if (!parameters["sslmode"].empty()) target.ssl_mode = ssl_mode(parameters["sslmode"]);
  target.ssl_root_certificate = parameters["sslrootcert"];
  return target;
}

}  // namespace

Instance::Instance(const Configuration& configuration, state::Database& database)
    : configuration_(configuration), database_(database) {
  MutexLock lock(mutex_);
  server_version_ = database_.setting(kVersionSetting).value_or("0");
}

Instance::~Instance() = default;

void Instance::check(const Stop& stop) {
  const std::string& pgdata = configuration_.pgdata;
  if (!std::filesystem::exists(pgdata + "/PG_VERSION")) {
    log::warning(
        "data directory \"{}\" holds no PostgreSQL cluster; a RESTORE FROM … brings one back",
        pgdata);
    return;
  }
  int major = postgres::read_pg_version(pgdata);
  if (!postgres::find_postmaster(pgdata)) {
    log::warning(
        "PostgreSQL {} in \"{}\" is not running; the Unix socket serves the local administrator",
        major, pgdata);
    return;
  }
  postgres::Connection connection = postgres::Connection::open(connect_options(), stop);
  std::vector<postgres::MissingThing> missing = postgres::check_instance(connection, pgdata, stop);
  if (!missing.empty()) {
    std::string detail;
    std::string hint;
    for (const postgres::MissingThing& thing : missing) {
      detail += (detail.empty() ? "" : "; ") + thing.what;
      hint += (hint.empty() ? "" : "\n") + thing.remedy;
    }
    throw Error(sqlstate::kConfigFileError,
                fmt::format("cannot look after this PostgreSQL: {}", missing[0].what))
        .detail(detail + ".")
        .hint(hint);
  }
  database_.set_setting(kPgBinSetting, pg_bin(stop).string());
  observe(stop);
  log::info("looking after PostgreSQL {} in \"{}\"", last_server_version(), pgdata);
}

void Instance::report_facts(const postgres::ServerFacts& facts) {
  {
    MutexLock lock(mutex_);
    if (server_version_ == facts.server_version) return;
    server_version_ = facts.server_version;
  }
  database_.set_setting(kVersionSetting, facts.server_version);
}

void Instance::observe(const Stop& stop) {
  std::optional<postgres::PostmasterPid> postmaster =
      postgres::find_postmaster(configuration_.pgdata);
  if (!postmaster) return;
  {
    MutexLock lock(mutex_);
    if (observed_start_time_ == postmaster->start_time) return;
  }
  postgres::Connection connection = postgres::Connection::open(connect_options(), stop);
  report_facts(postgres::read_server_facts(connection, stop));
  bool no_peer_rule = false;
  try {
    no_peer_rule = connection
                       .query(
                           "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_hba_file_rules"
                           " WHERE type = 'local' AND auth_method IN ('peer', 'ident'))",
                           stop)
                       .boolean(0, 0);
  } catch (const Error& error) {
    // Without the right to read the rules the front door stays on the careful side.
    log::debug("could not read pg_hba_file_rules: {}", error.message());
  }
  server(stop);
  MutexLock lock(mutex_);
  socket_has_no_peer_rule_ = no_peer_rule;
  observed_start_time_ = postmaster->start_time;
}

std::string Instance::conninfo() {
  if (!configuration_.pg_url.empty()) return configuration_.pg_url;
  std::optional<postgres::PostmasterPid> postmaster =
      postgres::find_postmaster(configuration_.pgdata);
  if (!postmaster) {
    throw Error(
        sqlstate::kCannotConnectNow,
        fmt::format("PostgreSQL is not running in data directory \"{}\"", configuration_.pgdata))
        .retry(Retry::Safe);
  }
  return postgres::conninfo_for(*postmaster);
}

std::optional<pgwire::UpstreamTarget> Instance::target() {
  std::optional<postgres::PostmasterPid> postmaster =
      postgres::find_postmaster(configuration_.pgdata);
  if (!postmaster) return std::nullopt;
  pgwire::UpstreamTarget target;
  if (!configuration_.pg_url.empty()) {
    target = target_of(configuration_.pg_url);
  } else {
    target.socket_directory = postmaster->socket_directory;
    target.host = postmaster->listen_address == "*" ? "127.0.0.1" : postmaster->listen_address;
    target.port = static_cast<std::uint16_t>(postmaster->port);
  }
  MutexLock lock(mutex_);
  // What was read from an earlier server's rules says nothing of this one's.
  target.socket_has_no_peer_rule =
      socket_has_no_peer_rule_ && observed_start_time_ == postmaster->start_time;
  return target;
}

std::string Instance::last_server_version() {
  MutexLock lock(mutex_);
  return server_version_;
}

postgres::ConnectOptions Instance::connect_options() {
  return {.conninfo = conninfo(), .database = {}};
}

std::filesystem::path Instance::pg_bin(const Stop& stop) {
  const std::string& pgdata = configuration_.pgdata;
  std::optional<int> major;
  if (std::filesystem::exists(pgdata + "/PG_VERSION")) major = postgres::read_pg_version(pgdata);
  return postgres::choose_pg_bin(
      {.data_directory = pgdata,
       .major = major,
       .given = {configuration_.pg_bin.begin(), configuration_.pg_bin.end()},
       .remembered = database_.setting(kPgBinSetting).value_or("")},
      stop);
}

std::vector<std::filesystem::path> Instance::programs(const Stop& stop) {
  std::vector<std::filesystem::path> directories(configuration_.pg_bin.begin(),
                                                 configuration_.pg_bin.end());
  directories.push_back(pg_bin(stop));
  return directories;
}

restore::PostgresInstance& Instance::server(const Stop& stop) {
  MutexLock lock(mutex_);
  if (!server_) {
    std::filesystem::path programs = pg_bin(stop);
    server_ = std::make_unique<restore::PostgresInstance>(restore::PostgresInstance::Options{
        .instance = {.data_directory = configuration_.pgdata,
                     .pg_bin = programs,
                     .major = postgres::programs_major(programs, stop).value_or(0),
                     .start_command = configuration_.pg_start_command,
                     .stop_command = configuration_.pg_stop_command,
                     .log_directory = configuration_.store,
                     .conninfo = configuration_.pg_url},
        .connect = {.conninfo = configuration_.pg_url, .database = {}},
        .stop_timeout = kStopTimeout,
        .start_timeout = kStartTimeout});
  }
  return *server_;
}

int Instance::binaries_major_version() { return server(Stop::never()).binaries_major_version(); }

bool Instance::running() { return postgres::find_postmaster(configuration_.pgdata).has_value(); }

void Instance::stop(const Stop& stop) { server(stop).stop(stop); }

void Instance::start(const Stop& stop) {
  // After its data directory was deleted, a postmaster goes on for a while, on the port that the
  // new one needs.
  postgres::stop_orphan_postmasters(configuration_.pgdata, stop);
  server(stop).start(stop);
}

std::optional<std::string> Instance::wait_ready(std::chrono::milliseconds timeout,
                                                const Stop& stop) {
  return server(stop).wait_ready(timeout, stop);
}

std::vector<std::string> Instance::user_objects(const Stop& stop) {
  return server(stop).user_objects(stop);
}

}  // namespace holdfast::daemon
