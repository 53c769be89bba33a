#include "postgres/orphan_postmaster.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "postgres/instance.h"

namespace holdfast::postgres {

namespace {

constexpr std::chrono::seconds kPatience{10};

struct Process {
  pid_t pid = 0;
  pid_t parent = 0;
};

/// The process if it is a postgres whose working directory is, or was, `data_directory`.
std::optional<Process> server_process(const std::filesystem::path& proc_entry,
                                      const std::string& data_directory) {
  std::error_code ignored;  // processes come and go while we look
  std::string directory = std::filesystem::read_symlink(proc_entry / "cwd", ignored).string();
  if (directory != data_directory && directory != data_directory + " (deleted)")
    return std::nullopt;

  // "pid (comm) state ppid …"; comm may hold anything, so look behind its closing parenthesis.
  std::ifstream stat(proc_entry / "stat");
  std::string line;
  std::getline(stat, line);
  std::size_t open = line.find('(');
  std::size_t close = line.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 4 > line.size())
    return std::nullopt;
  std::string command = line.substr(open + 1, close - open - 1);
  if (command != "postgres" && command != "postmaster") return std::nullopt;
  return Process{.pid = static_cast<pid_t>(std::stol(line)),
                 .parent = static_cast<pid_t>(std::stol(line.substr(close + 4)))};
}

/// Also true for a zombie: it holds nothing any more, but whoever started it has not looked yet.
bool gone(pid_t pid) {
  std::ifstream stat(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(stat, line)) return true;
  std::size_t close = line.rfind(')');
  return close == std::string::npos || close + 2 >= line.size() || line[close + 2] == 'Z';
}

}  // namespace

std::vector<pid_t> find_orphan_postmasters(const std::filesystem::path& data_directory) {
  std::vector<Process> servers;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (auto process = server_process(entry.path(), data_directory.string()))
      servers.push_back(*process);
  }
  std::optional<PostmasterPid> rightful = find_postmaster(data_directory);
  std::vector<pid_t> orphans;
  for (const Process& process : servers) {
    bool child = std::ranges::any_of(
        servers, [&](const Process& other) { return other.pid == process.parent; });
    if (!child && (!rightful || rightful->pid != process.pid)) orphans.push_back(process.pid);
  }
  return orphans;
}

void stop_orphan_postmasters(const std::filesystem::path& data_directory, const Stop& stop) {
  for (pid_t pid : find_orphan_postmasters(data_directory)) {
    log::warning(
        "stopping PostgreSQL process {}, which still runs on the lost data directory \"{}\"", pid,
        data_directory.string());
    ::kill(pid, SIGQUIT);
    auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (!gone(pid) && std::chrono::steady_clock::now() < give_up)
      stop.sleep(std::chrono::milliseconds(50));
    if (gone(pid)) continue;
    ::kill(pid, SIGKILL);
    stop.sleep(std::chrono::milliseconds(500));
    if (!gone(pid)) {
      throw Error(sqlstate::kIoError,
                  fmt::format("could not stop PostgreSQL process {} of data directory \"{}\"", pid,
                              data_directory.string()))
          .hint("End it by hand, then try again.");
    }
  }
}

}  // namespace holdfast::postgres
