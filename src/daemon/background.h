#pragma once

#include <string>

#include "base/unique_fd.h"

namespace holdfast::daemon {

/// `--background`: the parent process waits until the daemon serves, or has failed to start, so
/// that its exit status and output tell what a foreground start would have told.
class Background {
 public:
  /// Forks; must be called before any thread exists. In the parent it does not return: it exits
  /// with 0 once the child calls ready(), else with 1 after printing what the child gave to
  /// failed(). The child goes on in a session of its own, its output appended to `log_file`
  /// (created with mode 0600).
  static Background detach(const std::string& log_file);

  void ready();
  void failed(const std::string& message);

 private:
  explicit Background(UniqueFd to_parent) : to_parent_(std::move(to_parent)) {}
  UniqueFd to_parent_;
};

/// Sends standard output and standard error to the end of `path` from now on.
void redirect_output(const std::string& path);

/// Holds a pid file: written on construction, removed on destruction by the process that wrote it.
class PidFile {
 public:
  explicit PidFile(std::string path);
  ~PidFile();
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;

 private:
  std::string path_;
};

}  // namespace holdfast::daemon
