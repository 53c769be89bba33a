#pragma once

#include <condition_variable>
#include <exception>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "net/wake.h"

namespace holdfast::pgwire {

/// A session whose thread has nothing to do but to pass bytes on. Its functions are called on the
/// loop's thread and must not wait.
class Passenger {
 public:
  enum class Step {
    Stay,
    GetOff,  ///< the session's own thread has to go on
    Ended,   ///< one side has closed; the session's own thread will see it too
  };

  virtual ~Passenger() = default;
  virtual Step on_client_readable() = 0;
  virtual Step on_server_readable() = 0;
};

/// One thread that passes bytes on for many sessions while theirs sleep. With many busy clients
/// that saves the two context switches that each query would cost a thread of its own; whatever
/// takes time (a statement of ours, a peer that does not read) is done by the session's own thread.
class SharedLoop {
 public:
  SharedLoop();
  ~SharedLoop();
  SharedLoop(const SharedLoop&) = delete;
  SharedLoop& operator=(const SharedLoop&) = delete;

  /// Serves the passenger until it gets off; the calling thread sleeps meanwhile. Rethrows what a
  /// step threw.
  Passenger::Step ride(Passenger& passenger, int client_fd, int server_fd);

 private:
  struct Seat;

  void run(const std::stop_token& token);
  /// True when the passenger gets off.
  static bool serve(Seat& seat, bool client_side);

  UniqueFd epoll_;
  net::Wake wake_;
  std::jthread thread_;
};

}  // namespace holdfast::pgwire
