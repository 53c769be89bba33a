#include "pgwire/connection.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "net/socket.h"
#include "pgwire/message_writer.h"
#include "pgwire/protocol.h"
#include "pgwire/session.h"

namespace holdfast::pgwire {

namespace {

/// The first byte of a TLS ClientHello: the client skipped the SSLRequest
/// (sslnegotiation=direct, PostgreSQL 17).
constexpr std::byte kTlsHandshake{0x16};
constexpr std::chrono::seconds kCancelTimeout{10};

std::string os_user_name(uid_t uid) {
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 4096> space{};
  if (::getpwuid_r(uid, &entry, space.data(), space.size(), &found) != 0 || found == nullptr)
    return "";
  return found->pw_name;
}

Error daemon_stops() {
  return Error(sqlstate::kAdminShutdown, "terminating connection due to administrator command");
}

}  // namespace

Connection::Connection(FrontDoor door, UniqueFd socket, std::shared_ptr<SessionHandle> handle)
    : door_(door),
      handle_(std::move(handle)),
      on_unix_socket_(net::peer_uid(socket.get()).has_value()),
      deadline_(std::chrono::steady_clock::now() + door.config.authentication_timeout) {
  auto stream = std::make_unique<net::SocketStream>(std::move(socket));
  handle_->set_client(stream->fd());
  client_ = std::move(stream);
}

Connection::~Connection() {
  if (!key_.empty()) door_.registry.remove(key_, *handle_);
  handle_->set_server(-1);
  handle_->set_client(-1);
}

void Connection::serve(Admission admission) noexcept {
  try {
    serve_or_throw(admission);
  } catch (const SessionOver&) {
  } catch (const Error& error) {
    log::debug("session ends: {}", error.message());
    if (!handle_->ending()) send_fatal(error);
  } catch (const Stopped&) {
  } catch (const std::exception& error) {
    log::error("session ends by an internal error: {}", error.what());
    send_fatal(Error(sqlstate::kInternalError, "internal error of holdfast"));
  }
  if (handle_->ending()) send_fatal(daemon_stops());
}

void Connection::send_fatal(const Error& error) noexcept {
  if (client_ == nullptr) return;
  try {
    MessageWriter out;
    write_error(out, Severity::Fatal, error);
    client_->try_write(out.view());  // a client that does not read is not waited for
  } catch (const Error&) {
    // It has gone: nobody is left to be told.
  }
}

void Connection::serve_or_throw(Admission admission) {
  const auto packet = negotiate();
  if (!packet) return;
  if (admission == Admission::Full) {
    throw Error(sqlstate::kTooManyConnections, "sorry, too many clients already")
        .hint("Raise holdfast's limit of sessions.");
  }
  check_version(*packet);
  const StartupParameters parameters = parse_startup_parameters(ByteView(packet->bytes).subspan(8));
  if (parameters.replication) {
    throw Error(sqlstate::kFeatureNotSupported,
                "replication connections cannot pass through holdfast")
        .detail("A replica or backup that reads PostgreSQL's WAL needs a direct connection.")
        .hint("Connect to PostgreSQL's own host and port.");
  }
  const log::ThreadTag tag(fmt::format("session={}@{}", parameters.user, parameters.database));
  start_session(*packet, parameters);
}

std::optional<StartupPacket> Connection::negotiate() {
  auto& plain = static_cast<net::SocketStream&>(*client_);
  greet_directly_encrypted(plain);
  bool asked_for_tls = client_->encrypted();
  bool asked_for_gss = false;
  for (;;) {
    auto packet = read_startup_packet(*client_, deadline_);
    if (!packet) return std::nullopt;
    const ByteView no = as_bytes("N");
    if (packet->code == kSslRequestCode && !std::exchange(asked_for_tls, true)) {
      if (door_.tls == nullptr || on_unix_socket_) {
        client_->write_all(no);
      } else {
        client_->write_all(as_bytes("S"));
        start_tls(plain);
      }
    } else if (packet->code == kGssEncryptionRequestCode && !client_->encrypted() &&
               !std::exchange(asked_for_gss, true)) {
      client_->write_all(no);
    } else if (packet->code == kCancelRequestCode) {
      forward_cancel(*packet);
      return std::nullopt;
    } else {
      return packet;
    }
  }
}

void Connection::start_tls(net::SocketStream& plain) {
  // Should the handshake fail, nothing may be written to the client any more: it expects TLS.
  UniqueFd socket = plain.release();
  client_.reset();
  const int fd = socket.get();
  handle_->set_client(-1);
  client_ = door_.tls->accept(std::move(socket), deadline_);
  handle_->set_client(fd);
}

void Connection::greet_directly_encrypted(net::SocketStream& plain) {
  if (door_.tls == nullptr || on_unix_socket_) return;
  if (!net::wait_readable(plain, nullptr, deadline_).first) return;
  std::byte first{};
  const ssize_t got = ::recv(plain.fd(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got == 1 && first == kTlsHandshake) start_tls(plain);
}

void Connection::check_version(const StartupPacket& packet) const {
  if (packet.code >> 16 == kProtocolMajor) return;
  throw Error(sqlstate::kFeatureNotSupported,
              fmt::format("unsupported frontend protocol {}.{}: server supports 3.0 and later",
                          packet.code >> 16, packet.code & 0xffff));
}

void Connection::forward_cancel(const StartupPacket& packet) {
  const ByteView key = ByteView(packet.bytes).subspan(8);
  if (key.size() < 8 || key.size() > 4 + kMaxSecretBytes) return;
  const std::shared_ptr<SessionHandle> session = door_.registry.find(key);
  // Unknown keys are PostgreSQL's business no more than ours: all its sessions here are known.
  if (session == nullptr || !session->cancel()) return;
  const auto target = door_.upstream.target();
  if (!target) return;
  const auto deadline = std::chrono::steady_clock::now() + kCancelTimeout;
  const auto server =
      door_.dialer.dial(*target, preferred_route(*target), Encryption::AsConfigured, deadline);
  server->write_all(packet.bytes);
  // PostgreSQL closes when it has sent the signal; the client waits for us to close after that.
  std::array<std::byte, 64> nothing{};
  net::read_before(*server, nothing, deadline);
}

ClientOrigin Connection::origin() const {
  ClientOrigin origin{.same_host = net::peer_is_local(client_->fd()), .os_user = ""};
  if (const auto uid = net::peer_uid(client_->fd())) {
    origin.administrator = *uid == ::geteuid() || *uid == 0;
    origin.os_user = os_user_name(*uid);
  }
  return origin;
}

void Connection::refuse_without_server() const {
  throw Error(sqlstate::kCannotConnectNow, "PostgreSQL is not available")
      .detail(door_.upstream.down_reason())
      .hint(
          "Until it runs, only holdfast's own operating system user can connect, over holdfast's "
          "Unix socket.");
}

void Connection::start_session(const StartupPacket& packet, const StartupParameters& parameters) {
  const ClientOrigin from = origin();
  const auto target = door_.upstream.target();
  LoginResult login{.outcome = LoginOutcome::ServerDown, .backend = {}};
  if (target) {
    login = log_in({.client = *client_,
                    .client_input = client_input_,
                    .handle = *handle_,
                    .dialer = door_.dialer,
                    .target = *target,
                    .packet = packet,
                    .parameters = parameters,
                    .origin = from,
                    .remote_trust_allowed = door_.config.remote_trust_allowed,
                    .deadline = deadline_});
  }
  switch (login.outcome) {
    case LoginOutcome::Refused:
      return;
    case LoginOutcome::ServerDown:
      handle_->set_server(-1);
      if (!from.administrator) refuse_without_server();
      welcome_without_server(packet, parameters);
      return run_session(parameters, std::nullopt);
    case LoginOutcome::LoggedIn:
      remember_key(login.backend.key);
      return run_session(parameters, std::move(login.backend));
  }
}

void Connection::remember_key(ByteView key) {
  if (key.size() < 8 || key.size() > 4 + kMaxSecretBytes) return;
  key_.assign(key.begin(), key.end());
  door_.registry.add(key_, handle_);
}

void Connection::welcome_without_server(const StartupPacket& packet,
                                        const StartupParameters& parameters) {
  MessageWriter out;
  if ((packet.code & 0xffff) != 0 || !parameters.extensions.empty()) {
    out.begin(backend::kNegotiateProtocolVersion);
    out.u32(kProtocolMajor << 16);
    out.u32(static_cast<std::uint32_t>(parameters.extensions.size()));
    for (const std::string& extension : parameters.extensions) out.string(extension);
    out.end();
  }
  out.begin(backend::kAuthentication);
  out.u32(static_cast<std::uint32_t>(AuthenticationRequest::Ok));
  out.end();
  // What drivers rely on; the values are those of the texts that our statements return.
  write_parameter_status(out, "server_version", door_.upstream.last_server_version());
  write_parameter_status(out, "server_encoding", "UTF8");
  write_parameter_status(out, "client_encoding", "UTF8");
  write_parameter_status(out, "application_name", parameters.application_name);
  write_parameter_status(out, "DateStyle", "ISO, MDY");
  write_parameter_status(out, "IntervalStyle", "postgres");
  write_parameter_status(out, "TimeZone", "UTC");
  write_parameter_status(out, "integer_datetimes", "on");
  write_parameter_status(out, "standard_conforming_strings", "on");
  write_parameter_status(out, "is_superuser", "on");
  write_parameter_status(out, "session_authorization", parameters.user);
  Bytes key(8);
  if (::getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size()))
    throw_errno("draw random bytes");
  key[0] &= std::byte{0x7f};  // process numbers are positive
  out.begin(backend::kBackendKeyData);
  out.bytes(key);
  out.end();
  remember_key(key);
  write_ready(out, transaction::kIdle);
  client_->write_all(out.view());
}

void Connection::run_session(const StartupParameters& parameters,
                             std::optional<BackendConnection> backend) {
  Relay relay(*client_, client_input_, *handle_);
  if (backend) relay.connect(std::move(*backend));
  Session session(*client_, relay, door_.runner, *handle_, &door_.loop,
                  {.user = parameters.user,
                   .database = parameters.database,
                   .local_administrator = origin().administrator});
  session.run();
}

}  // namespace holdfast::pgwire
