#pragma once

#include <memory>
#include <optional>

#include "base/mutex.h"
#include "base/stop.h"

namespace holdfast::pgwire {

/// What other threads may do to a session: cancel its statement, or end it. Shared by the session's
/// thread, the server's list and the cancel registry; the last of them frees it.
class SessionHandle {
 public:
  /// The sockets that end() interrupts; -1 for none. The session sets them before it uses a
  /// socket and clears them before it closes one.
  void set_client(int fd);
  void set_server(int fd);

  /// The session starts a statement of ours; the Stop ends it. Requested at once when the session
  /// is ending already.
  Stop begin_statement();
  void end_statement();
  /// Between these the statement of ours has a query running in PostgreSQL.
  void begin_query();
  void end_query();

  /// The client wants its statement cancelled. Returns whether PostgreSQL has to be told too.
  bool cancel();
  /// The client has gone: the statement of ours stops waiting, but what it has started goes on.
  void client_left();
  /// The daemon stops. First reads end, so that the session can still say good-bye.
  void end();
  /// The session had its time: writes end as well.
  void abort();
  bool ending() const;

 private:
  mutable Mutex mutex_;
  int client_fd_ HF_GUARDED_BY(mutex_) = -1;
  int server_fd_ HF_GUARDED_BY(mutex_) = -1;
  bool ending_ HF_GUARDED_BY(mutex_) = false;
  bool querying_ HF_GUARDED_BY(mutex_) = false;
  std::optional<StopSource> statement_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::pgwire
