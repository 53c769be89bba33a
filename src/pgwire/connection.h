#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "net/stream.h"
#include "net/tls.h"
#include "pgwire/cancel_registry.h"
#include "pgwire/dialer.h"
#include "pgwire/login.h"
#include "pgwire/relay.h"
#include "pgwire/server.h"
#include "pgwire/session_handle.h"
#include "pgwire/shared_loop.h"
#include "pgwire/startup.h"

namespace holdfast::pgwire {

/// What all connections share. Outlives them.
struct FrontDoor {
  const ServerConfig& config;
  const net::TlsServer* tls;  ///< null: no TLS
  Upstream& upstream;
  Dialer& dialer;
  sql::StatementRunner& runner;
  CancelRegistry& registry;
  SharedLoop& loop;
};

/// Whether there is room for one more session.
enum class Admission { Welcome, Full };

/// One client from its first byte to its last: start-up, TLS, login, session; or a cancel request.
class Connection {
 public:
  Connection(FrontDoor door, UniqueFd socket, std::shared_ptr<SessionHandle> handle);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Returns when the connection is over. Never throws. When full, cancel requests are still
  /// served, and the others are told so once they can understand it.
  void serve(Admission admission) noexcept;

 private:
  void serve_or_throw(Admission admission);
  /// The StartupMessage, after what may come before it; absent when there is nothing to serve.
  std::optional<StartupPacket> negotiate();
  void start_tls(net::SocketStream& plain);
  void greet_directly_encrypted(net::SocketStream& plain);
  void check_version(const StartupPacket& packet) const;
  void forward_cancel(const StartupPacket& packet);
  void start_session(const StartupPacket& packet, const StartupParameters& parameters);
  /// For the local administrator while PostgreSQL is down.
  void welcome_without_server(const StartupPacket& packet, const StartupParameters& parameters);
  void refuse_without_server() const;
  void run_session(const StartupParameters& parameters, std::optional<BackendConnection> backend);
  void remember_key(ByteView key);
  void send_fatal(const Error& error) noexcept;
  ClientOrigin origin() const;

  FrontDoor door_;
  // Shared with the server's list and the cancel registry; the last of them frees it.
  const std::shared_ptr<SessionHandle> handle_;
  const bool on_unix_socket_;
  const net::Deadline deadline_;
  std::unique_ptr<net::Stream> client_;
  ReadBuffer client_input_;
  Bytes key_;
};

}  // namespace holdfast::pgwire
