#pragma once

#include <memory>
#include <string>

#include "net/stream.h"
#include "pgwire/dialer.h"
#include "pgwire/read_buffer.h"
#include "pgwire/session_handle.h"
#include "pgwire/startup.h"
#include "pgwire/upstream.h"

namespace holdfast::pgwire {

/// Who is at the other end of the client's socket.
struct ClientOrigin {
  bool same_host = false;
  /// The daemon's own OS user or root, on the Unix socket.
  bool administrator = false;
  std::string os_user;  ///< of a Unix socket's peer; empty for others
};

struct LoginRequest {
  net::Stream& client;
  ReadBuffer& client_input;
  SessionHandle& handle;
  Dialer& dialer;
  UpstreamTarget target;
  const StartupPacket& packet;
  const StartupParameters& parameters;
  ClientOrigin origin;
  bool remote_trust_allowed = false;
  net::Deadline deadline;
};

/// A connection to PostgreSQL that the client has logged in to.
struct BackendConnection {
  std::unique_ptr<net::Stream> stream;
  ReadBuffer input;  ///< received and not yet looked at
  Bytes key;         ///< body of BackendKeyData; empty when the server sent none
  char transaction_status = 'I';
};

enum class LoginOutcome {
  LoggedIn,
  ServerDown,  ///< nothing was told to the client
  Refused,     ///< the client was told why, or has gone
};

struct LoginResult {
  LoginOutcome outcome = LoginOutcome::Refused;
  BackendConnection backend;
};

/// Connects to PostgreSQL and relays the client's authentication up to the first ReadyForQuery.
/// Passwords and SASL messages pass through and are neither kept nor logged. Throws Error for what
/// the client is to be told by the caller.
LoginResult log_in(const LoginRequest& request);

}  // namespace holdfast::pgwire
