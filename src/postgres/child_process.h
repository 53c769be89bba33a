#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/stop.h"

namespace holdfast::postgres {

struct ChildProcess {
  std::vector<std::string> arguments;  ///< the program first: a path, or a name to look up in PATH
  std::chrono::milliseconds timeout{60'000};
  /// Run through "/bin/sh -c": arguments[0] is the whole command line.
  bool shell = false;
  /// "NAME=value", before ours: what the command line must not show, such as PGPASSWORD.
  std::vector<std::string> environment{};
};

struct ChildResult {
  int exit_code = 0;   ///< 128 + signal number when a signal ended it
  std::string output;  ///< standard output and error, at most the last 64 KiB
};

/// Runs a program to its end, without inheriting our descriptors, with standard input from
/// /dev/null. Throws kQueryCanceled after the timeout and Stopped on a stop, killing its process
/// group; kUndefinedFile when the program does not exist. A program that leaves processes behind
/// (as pg_ctl does) does not hold it up: only the program itself is waited for.
ChildResult run_child(const ChildProcess& child, const Stop& stop);

}  // namespace holdfast::postgres
