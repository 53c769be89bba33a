#include <fmt/core.h>
#include <signal.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "postgres/child_process.h"
#include "postgres/file_bytes.h"
#include "postgres/instance.h"

namespace holdfast::postgres {
namespace {

constexpr std::chrono::milliseconds kPollPause{100};
constexpr std::chrono::milliseconds kConnectPause{200};
constexpr std::chrono::milliseconds kLoginTimeout = std::chrono::seconds(30);
// pg_ctl waits this long for "ready"; a server that recovers longer is watched by wait_ready().
constexpr std::string_view kPgCtlPatience = "3";
constexpr std::size_t kLogTailBytes = 4096;
constexpr const char* kPgCtlCluster = "/usr/bin/pg_ctlcluster";
/// The only place that pg_ctlcluster looks at.
constexpr std::string_view kDebianClusters = "/etc/postgresql";

std::string shell_quote(std::string_view word) {
  std::string quoted = "'";
  for (const char c : word) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + '\'';
}

// "…/postgresql@15-main.service" in the process's control group; empty when its service is not one
// of PostgreSQL's (a login session, a container, somebody's supervisor).
std::string systemd_unit_of(pid_t pid) {
  std::error_code absent;
  if (!std::filesystem::is_directory("/run/systemd/system", absent)) return {};
  const auto groups = read_small_file(fmt::format("/proc/{}/cgroup", pid));
  std::string_view text = groups ? *groups : std::string_view();
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto name = line.substr(line.rfind('/') + 1);
    if (name.starts_with("postgresql") && name.ends_with(".service")) return std::string(name);
  }
  return {};
}

bool process_lives(pid_t pid) {
  // EPERM: lives, and is somebody else's.
  return ::kill(pid, 0) == 0 || errno != ESRCH;
}

/// Recovery has ended and sessions are let in. With hot standby the status is "standby" until then.
/// Source: PostgreSQL src/backend/postmaster/postmaster.c (PM_STATUS_READY),
/// src/backend/access/transam/xlog.c (the signal files go at the end of recovery).
bool takes_sessions(const PostmasterPid& postmaster, const std::filesystem::path& data_directory) {
  std::error_code absent;
  return postmaster.status == "ready" &&
         !std::filesystem::exists(data_directory / "recovery.signal", absent);
}

std::int64_t seconds_of(std::chrono::milliseconds timeout) {
  return std::chrono::ceil<std::chrono::seconds>(timeout).count();
}

}  // namespace

std::string_view to_string(ControlMethod method) {
  switch (method) {
    case ControlMethod::UserCommand:
      return "user command";
    case ControlMethod::Systemd:
      return "systemctl";
    case ControlMethod::PgCtlCluster:
      return "pg_ctlcluster";
    case ControlMethod::PgCtl:
      return "pg_ctl";
  }
  return "unknown";
}

InstanceControl::InstanceControl(InstanceOptions options) : options_(std::move(options)) {
  recall(options_.remembered);
  look_around();
}

ControlMethod InstanceControl::method() const {
  const bool commands = !options_.start_command.empty() && !options_.stop_command.empty();
  return commands ? ControlMethod::UserCommand : found_;
}

// Keeps what it knew where there is nothing to see: start() comes after the data directory went.
void InstanceControl::look_around() {
  const auto words = read_postmaster_opts(options_.data_directory);
  if (!words.empty()) {
    server_options_.clear();
    for (std::size_t i = 1; i < words.size(); ++i) {
      if (words[i] == "-D") {
        ++i;
      } else {
        server_options_.push_back(words[i]);
      }
    }
    const auto config_directory =
        find_config_files(options_.data_directory).config_file.parent_path();
    const bool debian = config_directory.parent_path().parent_path() == kDebianClusters &&
                        config_directory.parent_path().filename() == std::to_string(options_.major);
    debian_cluster_ = debian ? config_directory.filename().string() : "";
    seen_ = true;
  }
  if (const auto postmaster = find_postmaster(options_.data_directory)) {
    systemd_unit_ = systemd_unit_of(postmaster->pid);
  }
  if (!seen_) look_for_configuration();
  found_ = systemd_unit_.empty() ? method_without_systemd() : ControlMethod::Systemd;
}

// The data directory of a Debian cluster has no configuration, so that a server is not even started
// on it without knowing where that lies.
void InstanceControl::look_for_configuration() {
  debian_cluster_.clear();
  server_options_.clear();
  std::error_code absent;
  if (std::filesystem::exists(options_.data_directory / "postgresql.conf", absent)) return;
  const auto clusters =
      find_debian_clusters(options_.debian_clusters, options_.major, options_.data_directory);
  if (clusters.size() != 1) return;
  if (options_.debian_clusters == kDebianClusters) {
    debian_cluster_ = clusters.front().filename().string();
  }
  server_options_ = {"-c",
                     fmt::format("config_file={}/postgresql.conf", clusters.front().string())};
}

ControlMethod InstanceControl::method_without_systemd() const {
  std::error_code absent;
  return !debian_cluster_.empty() && std::filesystem::exists(kPgCtlCluster, absent)
             ? ControlMethod::PgCtlCluster
             : ControlMethod::PgCtl;
}

// One to a line: words of postmaster.opts have no line ends.
std::string InstanceControl::findings() const {
  if (!seen_) return {};
  std::string text =
      fmt::format("{}\n{}\n{}\n", options_.data_directory.string(), debian_cluster_, systemd_unit_);
  for (const auto& option : server_options_) text += option + '\n';
  return text;
}

void InstanceControl::recall(std::string_view findings) {
  std::vector<std::string> lines;
  while (!findings.empty()) {
    const auto end = std::min(findings.find('\n'), findings.size());
    lines.emplace_back(findings.substr(0, end));
    findings.remove_prefix(std::min(end + 1, findings.size()));
  }
  if (lines.size() < 3 || lines[0] != options_.data_directory) return;
  debian_cluster_ = lines[1];
  systemd_unit_ = lines[2];
  server_options_.assign(lines.begin() + 3, lines.end());
  seen_ = true;
}

std::filesystem::path InstanceControl::log_file() const {
  return options_.log_directory.empty() ? std::filesystem::path("/dev/null")
                                        : options_.log_directory / "postgresql.log";
}

std::string InstanceControl::log_tail() const {
  if (options_.log_directory.empty()) return {};
  try {
    const std::string content = read_small_file(log_file(), 64U << 20).value_or("");
    const auto from = content.size() > kLogTailBytes ? content.size() - kLogTailBytes : 0;
    return content.substr(from);
  } catch (const Error&) {
    return {};  // the log only helps to explain a failure
  }
}

void InstanceControl::run_user_command(const std::string& command,
                                       std::chrono::milliseconds timeout, const Stop& stop) {
  const ChildResult result =
      run_child({.arguments = {command}, .timeout = timeout, .shell = true}, stop);
  if (result.exit_code != 0) {
    throw Error(sqlstate::kSystemError,
                fmt::format("command \"{}\" failed with exit code {}", command, result.exit_code))
        .detail(result.output);
  }
}

bool InstanceControl::try_systemctl(std::string_view verb, std::chrono::milliseconds timeout,
                                    const Stop& stop) {
  try {
    const ChildResult result = run_child(
        {.arguments = {"systemctl", "--no-ask-password", std::string(verb), systemd_unit_},
         .timeout = timeout},
        stop);
    if (result.exit_code == 0) return true;
    log::info("systemctl {} {} failed, going on without it: {}", verb, systemd_unit_,
              result.output);
  } catch (const Error& error) {
    if (error.state() != sqlstate::kUndefinedFile) throw;
  }
  // The PostgreSQL user usually may not; the programs of PostgreSQL itself work for it.
  found_ = method_without_systemd();
  systemd_unit_.clear();
  return false;
}

// Runs pg_ctlcluster or pg_ctl. A start that has not finished when the tool gives up is no failure
// while the postmaster lives.
void InstanceControl::run_tool(const std::string& verb, std::chrono::milliseconds timeout,
                               const Stop& stop) {
  std::vector<std::string> words;
  const bool starting = verb == "start";
  if (found_ == ControlMethod::PgCtlCluster) {
    words = {kPgCtlCluster, "--skip-systemctl-redirect"};
    if (!starting) words.insert(words.end(), {"-m", "fast"});
    words.insert(words.end(), {std::to_string(options_.major), debian_cluster_, verb});
    words.insert(words.end(), {"--", "-w", "-t"});
  } else {
    words = {options_.pg_bin / "pg_ctl", verb, "-D", options_.data_directory};
    if (starting) {
      words.insert(words.end(), {"-l", log_file()});
      std::string options;
      for (const auto& option : server_options_) {
        options += (options.empty() ? "" : " ") + shell_quote(option);
      }
      if (!options.empty()) words.insert(words.end(), {"-o", options});
    } else {
      words.insert(words.end(), {"-m", "fast"});
    }
    words.insert(words.end(), {"-w", "-t"});
  }
  words.push_back(starting ? std::string(kPgCtlPatience) : std::to_string(seconds_of(timeout)));
  const ChildResult result = run_child({.arguments = words, .timeout = timeout}, stop);
  if (result.exit_code == 0 || (starting && running())) return;
  std::string detail = result.output;
  if (const auto tail = log_tail(); starting && !tail.empty()) detail += "\n" + tail;
  throw Error(sqlstate::kSystemError,
              fmt::format("could not {} PostgreSQL with {}", verb, to_string(found_)))
      .detail(detail);
}

void InstanceControl::stop(std::chrono::milliseconds timeout, const Stop& stop) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  const auto postmaster = find_postmaster(options_.data_directory);
  if (!postmaster) return;
  look_around();
  if (!options_.stop_command.empty()) {
    run_user_command(options_.stop_command, timeout, stop);
  } else if (found_ != ControlMethod::Systemd || !try_systemctl("stop", timeout, stop)) {
    run_tool("stop", timeout, stop);
  }
  while (process_lives(postmaster->pid) && running()) {
    if (std::chrono::steady_clock::now() >= deadline) {
      throw Error(sqlstate::kObjectInUse,
                  fmt::format("PostgreSQL with process number {} did not stop within {} seconds",
                              postmaster->pid, seconds_of(timeout)));
    }
    stop.sleep(kPollPause);
  }
}

void InstanceControl::start(std::chrono::milliseconds timeout, const Stop& stop) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  if (running()) return;
  look_around();
  if (!options_.start_command.empty()) {
    run_user_command(options_.start_command, timeout, stop);
  } else if (found_ != ControlMethod::Systemd || !try_systemctl("start", timeout, stop)) {
    run_tool("start", timeout, stop);
  }
  while (!running()) {
    if (std::chrono::steady_clock::now() >= deadline) {
      throw Error(sqlstate::kCannotConnectNow,
                  fmt::format("PostgreSQL did not start within {} seconds", seconds_of(timeout)))
          .detail(log_tail());
    }
    stop.sleep(kPollPause);
  }
}

std::optional<std::string> InstanceControl::wait_ready(std::chrono::milliseconds timeout,
                                                       const Stop& stop) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::optional<std::chrono::steady_clock::time_point> give_up_login;
  while (true) {
    const auto postmaster = find_postmaster(options_.data_directory);
    if (!postmaster) {
      throw Error(sqlstate::kCannotConnectNow, "PostgreSQL ended while it was starting")
          .detail(log_tail());
    }
    const auto now = std::chrono::steady_clock::now();
    // Its own files are what tells it for certain: a login may fail for reasons that have nothing
    // to do with recovery, and --pg-url may lead to another server.
    if (takes_sessions(*postmaster, options_.data_directory)) {
      const auto refusal = try_login(*postmaster, stop);
      if (!refusal) return std::nullopt;
      if (!give_up_login) give_up_login = now + options_.login_patience;
      if (now >= *give_up_login) return refusal;
    } else if (now >= deadline) {
      throw Error(
          sqlstate::kCannotConnectNow,
          fmt::format("PostgreSQL does not accept queries after {} seconds", seconds_of(timeout)))
          .detail(
              fmt::format("Its postmaster.pid says \"{}\".\n{}", postmaster->status, log_tail()));
    }
    stop.sleep(kConnectPause);
  }
}

std::optional<std::string> InstanceControl::try_login(const PostmasterPid& postmaster,
                                                      const Stop& stop) {
  try {
    Connection connection = Connection::open(
        {.conninfo = options_.conninfo.empty() ? conninfo_for(postmaster) : options_.conninfo,
         .database = std::nullopt,
         .replication = false,
         .timeout = kLoginTimeout},
        stop);
    connection.query("SELECT 1", stop);
    return std::nullopt;
  } catch (const Error& error) {
    return error.message();
  }
}

}  // namespace holdfast::postgres
