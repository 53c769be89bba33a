#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/stop.h"
#include "postgres/connection.h"

namespace holdfast::postgres {

/// What the first lines of postmaster.pid say.
/// Source: PostgreSQL src/include/utils/pidfile.h.
struct PostmasterPid {
  pid_t pid = 0;
  std::filesystem::path data_directory;
  std::int64_t start_time = 0;  ///< seconds since the Unix epoch
  int port = 0;
  std::string socket_directory;  ///< the first one; empty: none
  std::string listen_address;    ///< the first one; "*" for all; empty: none
  std::string status;  ///< "ready", "starting", "stopping", "standby"; empty if not there yet
};
/// Absent when `text` has no valid pid.
std::optional<PostmasterPid> parse_postmaster_pid(std::string_view text);

/// The major version in PG_VERSION. Throws kUndefinedFile when `data_directory` is no data
/// directory, kFeatureNotSupported for a version that is not supported.
int read_pg_version(const std::filesystem::path& data_directory);

/// The running postmaster of a data directory: postmaster.pid whose process lives and is a
/// postgres. Absent: not running (a stale file counts as not running).
std::optional<PostmasterPid> find_postmaster(const std::filesystem::path& data_directory);

/// A conninfo for the server that postmaster.pid describes: over its socket, else its address.
std::string conninfo_for(const PostmasterPid& postmaster);

/// The directory of the server's programs: `given` if not empty, that of the running server, what
/// postmaster.opts names, /usr/lib/postgresql/<major>/bin, then PATH. Each candidate must hold a
/// "postgres" of that major version (by asking it). Throws kUndefinedFile naming what was tried.
std::filesystem::path find_pg_bin(const std::filesystem::path& data_directory, int major,
                                  const std::filesystem::path& given, const Stop& stop);

/// Where the server's configuration lies. Debian keeps it outside the data directory.
struct ConfigFiles {
  std::filesystem::path config_file;  ///< postgresql.conf
  std::filesystem::path hba_file;
  std::filesystem::path ident_file;
  /// Every file that the three are or include and that lies outside the data directory; of a Debian
  /// cluster also its other files (pg_ctl.conf, start.conf, environment).
  std::vector<std::filesystem::path> outside;
};
/// Asks the running server. Needs the rights to see these settings (pg_read_all_settings).
ConfigFiles find_config_files(Connection& connection, const std::filesystem::path& data_directory,
                              const Stop& stop);
/// Without a server: from the options that it was started with last (postmaster.opts), else the
/// files in the data directory.
ConfigFiles find_config_files(const std::filesystem::path& data_directory);

/// Debian's clusters: <root>/<major>/<name>/postgresql.conf, outside the data directory. The
/// directories, below `root`, of those that are configured for this data directory.
std::vector<std::filesystem::path> find_debian_clusters(
    const std::filesystem::path& root, int major, const std::filesystem::path& data_directory);

/// The words of postmaster.opts: program, then options. Empty when there is none.
std::vector<std::string> read_postmaster_opts(const std::filesystem::path& data_directory);

struct InstanceOptions {
  std::filesystem::path data_directory{};
  std::filesystem::path pg_bin{};  ///< as find_pg_bin() found it
  int major = 0;
  std::string start_command{};  ///< of the user, run by /bin/sh -c; empty: find out
  std::string stop_command{};
  /// pg_ctl's -l file is made here. Empty: the server's output is discarded.
  std::filesystem::path log_directory{};
  /// To see whether queries are accepted. Empty: from postmaster.pid.
  std::string conninfo{};
  /// What findings() of an earlier process gave: for a data directory that is gone. Empty: nothing.
  std::string remembered{};
  /// Where Debian's tools keep configurations.
  std::filesystem::path debian_clusters = "/etc/postgresql";
  /// How long a server that takes sessions may refuse holdfast's login until wait_ready() returns.
  std::chrono::milliseconds login_patience = std::chrono::seconds(10);
};

/// How a server is started and stopped.
enum class ControlMethod {
  UserCommand,   ///< start_command and stop_command
  Systemd,       ///< its processes belong to a systemd service
  PgCtlCluster,  ///< Debian's wrapper, for clusters configured in /etc/postgresql
  PgCtl
};
std::string_view to_string(ControlMethod method);

/// Starts and stops one instance. The method, Debian cluster, systemd unit and command-line options
/// are found when it is made (and again at stop() and start()), while the server's files are still
/// there, so that start() works after the data directory was replaced. Where they never were, an
/// earlier process's findings() help, and else a configuration of Debian's for that directory.
class InstanceControl {
 public:
  explicit InstanceControl(InstanceOptions options);

  /// How stop() and start() would go about it; a command of the user goes before what was found.
  ControlMethod method() const;
  /// What was found of a server that ran here, for InstanceOptions::remembered; empty: nothing.
  std::string findings() const;
  bool running() const { return find_postmaster(options_.data_directory).has_value(); }

  /// Fast shutdown, waits until the process is gone. Fine when it is not running. Throws Error with
  /// the program's output as detail; Stopped.
  void stop(std::chrono::milliseconds timeout, const Stop& stop);
  /// Starts and waits until the postmaster lives; wait_ready() for queries. Fine when it runs.
  void start(std::chrono::milliseconds timeout, const Stop& stop);
  /// Waits until recovery has ended and the server takes sessions, as its own files say, then until
  /// a login succeeds. Throws kCannotConnectNow after the timeout or as soon as the server is gone,
  /// with the last lines of its log as detail where known. Where no login succeeds for
  /// `login_patience`, it returns why: others may use the server.
  std::optional<std::string> wait_ready(std::chrono::milliseconds timeout, const Stop& stop);

 private:
  void look_around();
  void recall(std::string_view findings);
  void look_for_configuration();
  ControlMethod method_without_systemd() const;
  /// Absent: it succeeded; else what was said instead.
  std::optional<std::string> try_login(const PostmasterPid& postmaster, const Stop& stop);
  bool try_systemctl(std::string_view verb, std::chrono::milliseconds timeout, const Stop& stop);
  void run_user_command(const std::string& command, std::chrono::milliseconds timeout,
                        const Stop& stop);
  void run_tool(const std::string& verb, std::chrono::milliseconds timeout, const Stop& stop);
  std::string log_tail() const;
  std::filesystem::path log_file() const;

  InstanceOptions options_;
  ControlMethod found_ = ControlMethod::PgCtl;  // never UserCommand
  std::string debian_cluster_;                  // "main"; empty: not one of Debian's
  std::string systemd_unit_;                    // "postgresql@15-main.service"
  std::vector<std::string> server_options_;     // of postmaster.opts, without program and -D
  bool seen_ = false;                           // the three above are of a server that ran here
};

}  // namespace holdfast::postgres
