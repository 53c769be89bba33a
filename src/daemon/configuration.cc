#include "daemon/configuration.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <regex>

#include "base/error.h"
#include "base/log.h"
#include "storage/open_store.h"

namespace holdfast::daemon {

namespace {

constexpr const char* kDefaultConfigFile = "/etc/holdfast/holdfast.conf";

std::string default_store() {
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') {
    throw Error(sqlstate::kConfigFileError, "no directory for holdfast's own state is known")
        .hint("Name one with --store; HOME, from which the default would follow, is not set.");
  }
  return std::string(home) + "/.holdfast";
}

std::string absolute(const std::string& path) {
  return std::filesystem::absolute(path).lexically_normal().string();
}

void check_locality(const std::string& locality) {
  static const std::regex kTiers(
      "[A-Za-z0-9_-]+=[A-Za-z0-9_.-]+(,[A-Za-z0-9_-]+=[A-Za-z0-9_.-]+)*");
  if (!locality.empty() && !std::regex_match(locality, kTiers)) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("invalid value for --locality: \"{}\"", locality))
        .hint(
            "Write key=value pairs from the widest to the narrowest, as in region=us-east,zone=a.");
  }
}

}  // namespace

net::HostPort parse_address(std::string_view text, std::string_view option) {
  std::optional<net::HostPort> address = net::parse_host_port(text);
  if (!address) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("invalid value for {}: \"{}\"", option, text))
        .hint("Write HOST:PORT, as in 127.0.0.1:26257 or [::1]:26257.");
  }
  if (address->host.empty()) address->host = "*";
  return *address;
}

std::map<std::string, std::uint64_t> parse_storage_rates(const std::vector<std::string>& rates,
                                                         std::string_view option) {
  static const CLI::AsSizeValue kSize(/*kb_is_1000=*/true);
  std::map<std::string, std::uint64_t> parsed;
  for (const std::string& text : rates) {
    const std::size_t equals = text.find('=');
    std::string bytes = equals == std::string::npos ? "" : text.substr(equals + 1);
    const std::string_view driver =
        storage::normalize_scheme(std::string_view(text).substr(0, equals));
    std::uint64_t number = 0;
    const bool readable = kSize(bytes).empty() && CLI::detail::lexical_cast(bytes, number);
    if (driver.empty() || !readable || number == 0) {
      throw Error(sqlstate::kConfigFileError,
                  fmt::format("invalid value for {}: \"{}\"", option, text))
          .hint("Write a driver and what it may move each second, as in s3=50MiB.");
    }
    parsed[std::string(driver)] = number;
  }
  return parsed;
}

void Configuration::declare(CLI::App& app) {
  app.set_config("--config", kDefaultConfigFile,
                 "Configuration file: lines of NAME=VALUE, with the names of these options");
  app.allow_config_extras(false);
  app.add_option("--pgdata", pgdata, "Data directory of the PostgreSQL instance to look after")
      ->required();
  app.add_option("--store", store, "Directory for holdfast's own state (default: ~/.holdfast)");
  app.add_option("--pg-url", pg_url,
                 "How to connect to the instance (default: as its postmaster.pid says)");
  app.add_option("--pg-bin", pg_bin,
                 "Directory of PostgreSQL's programs; may be given for several versions")
      ->delimiter(',');
  app.add_option("--listen", listen, "HOST:PORT to listen on for SQL; port 0 takes any free one")
      ->capture_default_str();
  app.add_option("--socket-dir", socket_dir, "Directory of the Unix socket (default: the store)");
  app.add_option("--http", http, "HOST:PORT for /health and /metrics, or none")
      ->capture_default_str();
  app.add_option("--external-io-dir", external_io_dir,
                 "Directory that nodelocal:// URIs lie in (default: <store>/extern)");
  app.add_flag("--external-io-disable-implicit-credentials", disable_implicit_credentials,
               "Refuse AUTH=implicit in storage URIs");
  app.add_flag("--external-io-disable-http", disable_http,
               "Refuse http(s) storage URIs and endpoints of one's own");
  app.add_option("--storage-ca-file", storage_ca_file,
                 "Certificate authorities (PEM) that object storage may use beside the system's");
  app.add_option("--storage-read-rate", storage_read_rate,
                 "DRIVER=BYTES: what all reads from such storage may take each second, s3=50MiB")
      ->delimiter(',');
  app.add_option("--storage-write-rate", storage_write_rate, "The same for writes")->delimiter(',');
  app.add_option("--node-id", node_id, "This node's number, as in nodelocal://1/")
      ->capture_default_str();
  app.add_option("--locality", locality, "Where this node is: region=us-east,zone=a");
  app.add_option("--tls-cert", tls_cert,
                 "Certificate (PEM, with its chain) for clients' TLS connections");
  app.add_option("--tls-key", tls_key, "Private key of --tls-cert");
  app.add_option("--jobs-concurrency", jobs_concurrency, "How many jobs run at once")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--wal-flush-interval", wal_flush_interval_ms,
                 "At most this many milliseconds of WAL are missing in a WAL archive")
      ->check(CLI::Range(100, 3'600'000))
      ->capture_default_str();
  app.add_option(
         "--wal-keep-limit", wal_keep_limit,
         "The most WAL that PostgreSQL keeps for a WAL archive whose storage is away, such as "
         "100GB; 0 for no bound")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app.add_option("--log-level", log_level, "debug, info, warning or error")->capture_default_str();
  app.add_option("--log-file", log_file, "Log here instead of to standard error");
  app.add_flag("--background", background, "Return when the daemon is ready, and leave it running");
  app.add_option("--pid-file", pid_file,
                 "Write the process id here (with --background: <store>/holdfast.pid)");
  app.add_option("--pg-stop-command", pg_stop_command, "Shell command that stops the instance");
  app.add_option("--pg-start-command", pg_start_command, "Shell command that starts the instance");
  app.add_option("--pause-point", pause_points, "For tests")->group("");
}

void Configuration::complete() {
  if (!log::set_level(log_level)) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("invalid value for --log-level: \"{}\"", log_level))
        .hint("Valid values are debug, info, warning and error.");
  }
  pgdata = absolute(pgdata);
  store = absolute(store.empty() ? default_store() : store);
  external_io_dir = absolute(external_io_dir.empty() ? store + "/extern" : external_io_dir);
  socket_dir = absolute(socket_dir.empty() ? store : socket_dir);
  if (background && pid_file.empty()) pid_file = store + "/holdfast.pid";
  if (background && log_file.empty()) log_file = store + "/holdfast.log";
  parse_address(listen, "--listen");
  if (http != "none") parse_address(http, "--http");
  check_locality(locality);
  parse_storage_rates(storage_read_rate, "--storage-read-rate");
  parse_storage_rates(storage_write_rate, "--storage-write-rate");
  if (!storage_ca_file.empty()) storage_ca_file = absolute(storage_ca_file);
  if (!storage_ca_file.empty() && ::access(storage_ca_file.c_str(), R_OK) != 0) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("could not read --storage-ca-file \"{}\": {}", storage_ca_file,
                            std::strerror(errno)));
  }
  if (tls_cert.empty() != tls_key.empty()) {
    throw Error(sqlstate::kConfigFileError, "--tls-cert and --tls-key must be given together");
  }
  if (pg_stop_command.empty() != pg_start_command.empty()) {
    throw Error(sqlstate::kConfigFileError,
                "--pg-stop-command and --pg-start-command must be given together")
        .hint("A restore stops and starts PostgreSQL; it has to do both in the same way.");
  }
  if (node_id.empty() || node_id.size() > 9 ||
      node_id.find_first_not_of("0123456789") != std::string::npos || node_id[0] == '0') {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("invalid value for --node-id: \"{}\"", node_id))
        .hint("A node id is a positive number.");
  }
  if (store == pgdata || store.starts_with(pgdata + "/")) {
    throw Error(sqlstate::kConfigFileError, "the store must not lie inside the data directory")
        .detail("A restore moves the data directory away, and a backup would contain the store.")
        .hint("Name another directory with --store.");
  }
  if (external_io_dir == pgdata || external_io_dir.starts_with(pgdata + "/")) {
    throw Error(sqlstate::kConfigFileError,
                "the external I/O directory must not lie inside the data directory")
        .hint("Name another directory with --external-io-dir.");
  }
}

}  // namespace holdfast::daemon
