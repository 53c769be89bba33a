#include "daemon/background.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/error.h"

namespace holdfast::daemon {

namespace {

/// One byte that says how the rest is to be read.
constexpr char kReady = 'R';
constexpr char kFailed = 'F';

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // the parent is gone: nobody is left to be told
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

[[noreturn]] void wait_for_child(int from_child) {
  std::string told;
  std::array<char, 4096> buffer;
  for (;;) {
    ssize_t n = ::read(from_child, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    told.append(buffer.data(), static_cast<std::size_t>(n));
  }
  // _exit: the child has its own copy of everything that exit() would flush.
  if (!told.empty() && told[0] == kReady) ::_exit(0);
  std::string message =
      told.empty() ? "holdfast ended before it was ready; its log says why\n" : told.substr(1);
  write_all(STDERR_FILENO, message);
  ::_exit(1);
}

}  // namespace

void redirect_output(const std::string& path) {
  UniqueFd log(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log) throw_errno(fmt::format("open log file \"{}\"", path));
  if (::dup2(log.get(), STDOUT_FILENO) < 0 || ::dup2(log.get(), STDERR_FILENO) < 0)
    throw_errno("redirect output");
}

Background Background::detach(const std::string& log_file) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("create a pipe");
  UniqueFd from_child(ends[0]);
  UniqueFd to_parent(ends[1]);
  std::fflush(nullptr);
  pid_t child = ::fork();
  if (child < 0) throw_errno("start the background process");
  if (child > 0) {
    to_parent.reset();
    wait_for_child(from_child.get());
  }
  from_child.reset();
  Background background(std::move(to_parent));
  try {
    if (::setsid() < 0) throw_errno("start a session");
    UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (null) ::dup2(null.get(), STDIN_FILENO);
    redirect_output(log_file);
  } catch (const Error& error) {
    background.failed(fmt::format("holdfast: {}\n", error.message()));
    std::exit(1);
  }
  return background;
}

void Background::ready() {
  write_all(to_parent_.get(), std::string(1, kReady));
  to_parent_.reset();
}

void Background::failed(const std::string& message) {
  write_all(to_parent_.get(), kFailed + message);
  to_parent_.reset();
}

PidFile::PidFile(std::string path) : path_(std::move(path)) {
  UniqueFd file(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) throw_errno(fmt::format("create pid file \"{}\"", path_));
  std::string text = fmt::format("{}\n", ::getpid());
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw_errno(fmt::format("write pid file \"{}\"", path_));
  }
}

PidFile::~PidFile() { ::unlink(path_.c_str()); }

}  // namespace holdfast::daemon
