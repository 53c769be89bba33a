#pragma once

#include <memory>
#include <string>

#include "base/stop.h"
#include "daemon/configuration.h"

namespace holdfast::daemon {

/// `holdfast start`: everything that runs beside one PostgreSQL instance, wired together.
class Daemon {
 public:
  /// Starts all parts, from the store to the listeners. Throws Error with a hint when one cannot
  /// start.
  explicit Daemon(Configuration configuration, const Stop& stop);
  /// Stops them in the opposite order: no new sessions, then jobs (they go on at the next start),
  /// then the store.
  ~Daemon();

  /// "psql -h 127.0.0.1 -p 26257", for the line that says the daemon is ready.
  std::string how_to_connect() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// The whole life of the daemon's process after the command line was read: signals, background,
/// start, wait for SIGTERM or SIGINT, stop. Returns the exit status.
int run_daemon(Configuration configuration);

}  // namespace holdfast::daemon
