#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "net/socket.h"

namespace CLI {
class App;
}

namespace holdfast::daemon {

/// The value of `option`: "127.0.0.1:8080", "[::1]:8080"; ":8080" and "*:8080" are all interfaces
/// (host "*"). Throws kConfigFileError.
net::HostPort parse_address(std::string_view text, std::string_view option);

/// "s3=50MiB", by driver, in bytes for each second. Throws kConfigFileError.
std::map<std::string, std::uint64_t> parse_storage_rates(const std::vector<std::string>& rates,
                                                         std::string_view option);

/// What `holdfast start` was told, by command line or configuration file. docs/configuration.md
/// describes each.
struct Configuration {
  std::string pgdata;
  std::string store;
  std::string pg_url;
  std::vector<std::string> pg_bin;
  std::string listen = "127.0.0.1:26257";
  std::string socket_dir;  ///< empty: the store
  std::string http = "127.0.0.1:8080";
  std::string external_io_dir;  ///< empty: <store>/extern
  bool disable_implicit_credentials = false;
  bool disable_http = false;
  std::string storage_ca_file;
  std::vector<std::string> storage_read_rate;   ///< "s3=50MiB"
  std::vector<std::string> storage_write_rate;  ///< the same
  std::string node_id = "1";
  std::string locality;
  std::string tls_cert;
  std::string tls_key;
  std::size_t jobs_concurrency = 4;
  std::uint32_t wal_flush_interval_ms = 1000;
  std::uint64_t wal_keep_limit = 64ULL << 30;  ///< bytes; 0: no bound
  std::string log_level = "info";
  std::string log_file;  ///< empty: standard error (with --background: <store>/holdfast.log)
  bool background = false;
  std::string pid_file;  ///< empty: <store>/holdfast.pid with --background, else none
  std::string pg_stop_command;
  std::string pg_start_command;
  std::string pause_points;  ///< for tests: docs/testing.md

  /// Declares the options, and --config, on `app`.
  void declare(CLI::App& app);
  /// Fills in what depends on other options and checks what can be checked without touching
  /// anything. Throws kConfigFileError with a hint.
  void complete();
};

}  // namespace holdfast::daemon
