#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "pgwire/upstream.h"
#include "sql/statement_runner.h"

namespace holdfast::pgwire {

struct ServerConfig {
  std::string listen_host = "127.0.0.1";  ///< empty: no TCP; "*": all interfaces
  std::uint16_t port = 26257;             ///< TCP; also in the Unix socket's name. 0: a free one
  std::string socket_directory;           ///< empty: no Unix socket
  mode_t socket_mode = 0777;
  std::string tls_certificate_file;  ///< empty: no TLS
  std::string tls_key_file;
  std::size_t max_sessions = 1000;
  std::chrono::seconds authentication_timeout{60};
  /// PostgreSQL sees every session come from this host, so a `trust` rule meant for local users
  /// would let in everybody. Without this, clients from other hosts need a challenge (SCRAM, md5,
  /// password, certificate is not possible).
  bool remote_trust_allowed = false;
};

/// The front door: listens, and passes each session on to PostgreSQL except for holdfast's own
/// statements. One thread for each session.
class Server {
 public:
  Server(ServerConfig config, Upstream& upstream, sql::StatementRunner& runner);
  /// Calls stop().
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Opens the sockets and begins to accept. Throws Error when a socket, certificate or key cannot
  /// be used.
  void start();
  /// Tells every session FATAL 57P01 (statements of ours are stopped with StopReason::Shutdown),
  /// and returns when all have ended, within a few seconds. May be called twice.
  void stop();

  /// The TCP port in use, valid after start().
  std::uint16_t port() const;
  std::size_t session_count() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::pgwire
