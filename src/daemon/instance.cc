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
constexpr const char* kControlSetting = "instance.control";
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

/// Absent when PG_VERSION is missing, or damaged.
std::optional<int> major_in(const std::string& pgdata) {
  try {
    return postgres::read_pg_version(pgdata);
  } catch (const Error& error) {
    log::warning("the version of the cluster in \"{}\" is not known: {}", pgdata, error.message());
    return std::nullopt;
  }
}

/// Whether a server that refuses a session with this may let one in later, or be made to.
/// Source: PostgreSQL src/backend/utils/errcodes.txt, classes 08, 28, 3D, 53, 57.
bool may_pass(SqlState state) {
  const std::string_view code = state.view();
  return code.starts_with("08") || code.starts_with("28") || code.starts_with("3D") ||
         code.starts_with("53") || code.starts_with("57");
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
  const std::optional<int> major = major_in(pgdata);
  if (!postgres::find_postmaster(pgdata)) {
    log::warning(
        "PostgreSQL {} in \"{}\" is not running; the Unix socket serves the local administrator",
        major ? std::to_string(*major) : "of unknown version", pgdata);
    return;
  }
  // Whether it recovers, is full, or refuses the password: holdfast is needed most when something
  // is wrong, and what it must know is asked once it gets in.
  std::optional<postgres::Connection> connection;
  try {
    connection.emplace(postgres::Connection::open(connect_options(), stop));
  } catch (const Error& error) {
    if (!may_pass(error.state())) throw;
    log::warning(
        "cannot look at PostgreSQL in \"{}\" yet: {}; holdfast goes on trying, see --pg-url and "
        "pg_hba.conf if it does not recover",
        pgdata, error.message());
    return;
  }
  require_suitable(*connection, stop);
  database_.set_setting(kPgBinSetting, pg_bin(stop).string());
  observe(stop);
  log::info("looking after PostgreSQL {} in \"{}\"", last_server_version(), pgdata);
}

void Instance::require_suitable(postgres::Connection& connection, const Stop& stop) {
  const std::vector<postgres::MissingThing> missing =
      postgres::check_instance(connection, configuration_.pgdata, stop);
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
  suitable_ = true;
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
  if (!suitable_) {
    // What the start could not ask. Backups and restores ask again, and refuse.
    try {
      require_suitable(connection, stop);
      database_.set_setting(kPgBinSetting, pg_bin(stop).string());
    } catch (const Error& error) {
      log::warning("{}: {}", error.message(), error.detail());
    }
  }
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
  // How it was started, for a process that finds nothing of it any more.
  database_.set_setting(kControlSetting,
                        postgres::InstanceControl(instance_options(stop)).findings());
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
  if (std::filesystem::exists(pgdata + "/PG_VERSION")) major = major_in(pgdata);
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

postgres::InstanceOptions Instance::instance_options(const Stop& stop) {
  const std::filesystem::path programs = pg_bin(stop);
  return {.data_directory = configuration_.pgdata,
          .pg_bin = programs,
          .major = postgres::programs_major(programs, stop).value_or(0),
          .start_command = configuration_.pg_start_command,
          .stop_command = configuration_.pg_stop_command,
          .log_directory = configuration_.store,
          .conninfo = configuration_.pg_url,
          .remembered = database_.setting(kControlSetting).value_or("")};
}

restore::PostgresInstance& Instance::server(const Stop& stop) {
  MutexLock lock(mutex_);
  if (!server_) {
    server_ = std::make_unique<restore::PostgresInstance>(restore::PostgresInstance::Options{
        .instance = instance_options(stop),
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
  // What another server has says nothing of the directory that is about to be replaced.
  if (!suitable_) {
    postgres::Connection connection = postgres::Connection::open(connect_options(), stop);
    require_suitable(connection, stop);
  }
  return server(stop).user_objects(stop);
}

}  // namespace holdfast::daemon
