#include "postgres/child_process.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "postgres/wait_internal.h"

extern char** environ;

namespace holdfast::postgres {
namespace {

constexpr std::size_t kOutputLimit = 64 * 1024;
constexpr std::chrono::milliseconds kTermPatience{500};

class SpawnActions {
 public:
  SpawnActions() { ::posix_spawn_file_actions_init(&actions_); }
  ~SpawnActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

class SpawnAttributes {
 public:
  SpawnAttributes() {
    ::posix_spawnattr_init(&attributes_);
    // A group of its own, so that a kill reaches what a shell started; and no signal is ignored or
    // blocked there because we do.
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnAttributes() { ::posix_spawnattr_destroy(&attributes_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

void drain(int fd, std::string& output) {
  char buffer[4096];
  while (true) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) return;
    output.append(buffer, static_cast<std::size_t>(got));
    if (output.size() > 2 * kOutputLimit) output.erase(0, output.size() - kOutputLimit);
  }
}

int reap(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) throw_errno("wait for a child process");
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void kill_group(pid_t pid, int process_fd) {
  ::kill(-pid, SIGTERM);
  pollfd polled{.fd = process_fd, .events = POLLIN, .revents = 0};
  ::poll(&polled, 1, static_cast<int>(kTermPatience.count()));
  ::kill(-pid, SIGKILL);
  reap(pid);
}

}  // namespace

ChildResult run_child(const ChildProcess& child, const Stop& stop) {
  stop.check();
  std::vector<std::string> words = child.arguments;
  if (child.shell) words = {"/bin/sh", "-c", child.arguments.at(0)};
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  std::vector<std::string> added = child.environment;
  std::vector<char*> environment;
  for (auto& entry : added) environment.push_back(entry.data());
  // The first of two entries of one name counts.
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  environment.push_back(nullptr);

  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("create a pipe");
  UniqueFd output_end(ends[0]);
  UniqueFd input_end(ends[1]);
  ::fcntl(output_end.get(), F_SETFL, O_NONBLOCK);

  SpawnActions actions;
  ::posix_spawn_file_actions_addopen(actions.get(), 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(actions.get(), input_end.get(), 1);
  ::posix_spawn_file_actions_adddup2(actions.get(), input_end.get(), 2);
  // Descriptors of ours that lack O_CLOEXEC (a library's) must not live on in a server we start.
  ::posix_spawn_file_actions_addclosefrom_np(actions.get(), 3);
  const SpawnAttributes attributes;

  pid_t pid = 0;
  const int failed = ::posix_spawnp(&pid, arguments[0], actions.get(), attributes.get(),
                                    arguments.data(), environment.data());
  if (failed != 0) throw_errno(fmt::format("run program \"{}\"", words[0]), failed);
  input_end.reset();
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) {
    const int error = errno;
    ::kill(-pid, SIGKILL);
    reap(pid);
    throw_errno("open a child process", error);
  }

  ChildResult result;
  const Deadline deadline = deadline_after(child.timeout);
  try {
    const StopWake wake(stop);
    bool ended = false;
    bool output_open = true;
    while (!ended) {
      // Output is read while the program runs so that it never waits for us; who else holds the
      // pipe open does not matter once the program has ended.
      if (!wait_for(process.get(), POLLIN, deadline, wake, output_open ? output_end.get() : -1)) {
        throw Error(sqlstate::kQueryCanceled,
                    fmt::format("program \"{}\" did not end within {} seconds", words[0],
                                std::chrono::ceil<std::chrono::seconds>(child.timeout).count()));
      }
      pollfd process_state{.fd = process.get(), .events = POLLIN, .revents = 0};
      ended = ::poll(&process_state, 1, 0) > 0;
      pollfd output_state{.fd = output_end.get(), .events = POLLIN, .revents = 0};
      ::poll(&output_state, 1, 0);
      drain(output_end.get(), result.output);
      // Closed by the program: poll would report it without end.
      if (output_state.revents == POLLHUP) output_open = false;
    }
  } catch (const Error& error) {
    kill_group(pid, process.get());
    drain(output_end.get(), result.output);
    throw Error(error.state(), error.message()).detail(result.output);
  } catch (const Stopped&) {
    kill_group(pid, process.get());
    throw;
  }
  result.exit_code = reap(pid);
  drain(output_end.get(), result.output);
  if (result.output.size() > kOutputLimit) {
    result.output.erase(0, result.output.size() - kOutputLimit);
  }
  return result;
}

}  // namespace holdfast::postgres
