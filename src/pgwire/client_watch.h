#pragma once

#include <atomic>
#include <thread>

#include "net/wake.h"
#include "pgwire/session_handle.h"

namespace holdfast::pgwire {

/// While it lives, a thread watches whether the client closes its end of the connection, and then
/// stops the session's statement. That ends the waiting only: a job that the statement created
/// goes on, as it does in CockroachDB.
class ClientWatch {
 public:
  /// `fd` -1: nothing to watch.
  ClientWatch(int fd, SessionHandle& handle);
  ~ClientWatch();
  ClientWatch(const ClientWatch&) = delete;
  ClientWatch& operator=(const ClientWatch&) = delete;

  bool client_gone() const { return gone_; }

 private:
  void watch(int fd);

  SessionHandle& handle_;
  net::Wake done_;
  std::atomic<bool> gone_ = false;
  std::jthread thread_;
};

}  // namespace holdfast::pgwire
