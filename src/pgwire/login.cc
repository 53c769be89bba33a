#include "pgwire/login.h"

#include <fmt/format.h>

#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "pgwire/message.h"
#include "pgwire/message_reader.h"
#include "pgwire/message_writer.h"
#include "pgwire/protocol.h"

namespace holdfast::pgwire {

namespace {

constexpr std::string_view kChannelBindingSuffix = "-PLUS";
/// Longest message of a server before it is ready; an ErrorResponse or notice is the longest.
constexpr std::uint32_t kMaxLoginMessageBytes = 1 << 20;

bool is_challenge(AuthenticationRequest request) {
  return request != AuthenticationRequest::Ok && request != AuthenticationRequest::SaslContinue &&
         request != AuthenticationRequest::SaslFinal;
}

bool wants_answer(AuthenticationRequest request) {
  return request != AuthenticationRequest::Ok && request != AuthenticationRequest::SaslFinal;
}

/// The GSS-API header that opens a SASLInitialResponse: 'n' (no channel binding), 'y' (the client
/// could, and believes that the server cannot) or 'p'. Absent for other password messages.
/// Source: RFC 5802 section 7; PostgreSQL documentation, SASLInitialResponse.
std::optional<char> channel_binding_flag(ByteView body) {
  const std::string_view text = as_text(body);
  if (!text.starts_with("SCRAM-")) return std::nullopt;
  const std::size_t name_end = text.find('\0');
  if (name_end == std::string_view::npos || name_end + 5 >= text.size()) return std::nullopt;
  return text[name_end + 5];  // behind the NUL and the response's length
}

class Login {
 public:
  explicit Login(const LoginRequest& request) : request_(request) {}
  ~Login() {
    // A connection that is not handed on is closed now.
    if (result_.backend.stream != nullptr) request_.handle.set_server(-1);
  }

  LoginResult run();

 private:
  enum class Step { Continue, Done };

  void connect(Route route, Encryption encryption);
  /// Waits for both sides as far as they may speak; false when one has gone and the login with it.
  bool read_more();
  bool on_server_gone();
  Step on_server_message(const Message& message);
  Step on_authentication(const Message& message);
  Step on_client_message(const Message& message);
  void offer_mechanisms(const Message& message);
  /// Decides about a login that PostgreSQL granted without asking for anything.
  Step on_granted_unchallenged(const Message& message);
  Step ask_over_tcp(const Message& granted);
  Step pass_on(const Message& message);
  void flush();

  const LoginRequest& request_;
  LoginResult result_;
  Route route_ = Route::Tcp;
  MessageWriter to_client_;
  bool told_client_ = false;
  bool challenged_ = false;
  bool client_speaks_ = false;
  bool version_negotiated_ = false;
  bool mechanisms_offered_ = false;
};

void Login::connect(Route route, Encryption encryption) {
  request_.handle.set_server(-1);
  result_.backend.stream.reset();
  result_.backend.input = ReadBuffer();
  route_ = route;
  result_.backend.stream =
      request_.dialer.dial(request_.target, route, encryption, request_.deadline);
  request_.handle.set_server(result_.backend.stream->fd());
  result_.backend.stream->write_all(request_.packet.bytes);
}

void Login::flush() {
  if (to_client_.empty()) return;
  request_.client.write_all(to_client_.view());
  to_client_.clear();
  told_client_ = true;
}

bool Login::read_more() {
  net::Stream& server = *result_.backend.stream;
  const net::Readiness ready =
      net::wait_readable(server, client_speaks_ ? &request_.client : nullptr, request_.deadline);
  if (!ready.first && !ready.second)
    throw Error(sqlstate::kConnectionFailure, "the client took too long to log in");
  if (ready.second) {
    const auto got = request_.client.try_read(request_.client_input.space());
    if (got && *got == 0) return false;
    if (got) request_.client_input.added(*got);
  }
  if (ready.first) {
    const auto got = server.try_read(result_.backend.input.space());
    if (got && *got == 0) return on_server_gone();
    if (got) result_.backend.input.added(*got);
  }
  return true;
}

bool Login::on_server_gone() {
  // A server that is killed, or told to stop, takes connections with it that it has just accepted:
  // to the administrator that is a server which is down.
  if (!told_client_ && to_client_.empty() && request_.origin.administrator) {
    log::info("PostgreSQL closed the connection during the login");
    result_.outcome = LoginOutcome::ServerDown;
    return false;
  }
  throw Error(sqlstate::kConnectionFailure, "PostgreSQL closed the connection during the login");
}

LoginResult Login::run() {
  try {
    connect(preferred_route(request_.target), Encryption::AsConfigured);
  } catch (const Error& error) {
    if (error.state() != sqlstate::kConnectionFailure) throw;
    log::info("PostgreSQL does not answer: {}", error.message());
    result_.outcome = LoginOutcome::ServerDown;
    return std::move(result_);
  }
  for (;;) {
    while (const auto message =
               first_message(result_.backend.input.data(), kMaxLoginMessageBytes)) {
      // A step may replace the connection, and its buffer with it.
      const net::Stream* connection = result_.backend.stream.get();
      const std::size_t size = message->whole.size();
      const Step step = on_server_message(*message);
      if (connection == result_.backend.stream.get()) result_.backend.input.consume(size);
      if (step == Step::Done) {
        flush();
        return std::move(result_);
      }
    }
    flush();
    while (client_speaks_) {
      const auto message = first_message(request_.client_input.data(), kMaxAuthenticationBytes);
      if (!message) break;
      const Step step = on_client_message(*message);
      request_.client_input.consume(message->whole.size());
      if (step == Step::Done) return std::move(result_);
    }
    if (!read_more()) return std::move(result_);
  }
}

Login::Step Login::pass_on(const Message& message) {
  to_client_.bytes(message.whole);
  return Step::Continue;
}

Login::Step Login::on_server_message(const Message& message) {
  switch (message.type) {
    case backend::kAuthentication:
      return on_authentication(message);
    case backend::kErrorResponse:
      if (!told_client_ && to_client_.empty() &&
          parse_error(message.body).state() == sqlstate::kCannotConnectNow) {
        result_.outcome = LoginOutcome::ServerDown;  // it starts, stops or recovers
        if (request_.origin.administrator) return Step::Done;
        result_.outcome = LoginOutcome::Refused;
      }
      pass_on(message);
      return Step::Done;
    case backend::kNegotiateProtocolVersion:
      if (std::exchange(version_negotiated_, true)) return Step::Continue;
      return pass_on(message);
    case backend::kBackendKeyData:
      result_.backend.key.assign(message.body.begin(), message.body.end());
      return pass_on(message);
    case backend::kReadyForQuery:
      pass_on(message);
      if (!message.body.empty())
        result_.backend.transaction_status = static_cast<char>(message.body[0]);
      result_.outcome = LoginOutcome::LoggedIn;
      return Step::Done;
    default:
      return pass_on(message);
  }
}

Login::Step Login::on_authentication(const Message& message) {
  const auto request = static_cast<AuthenticationRequest>(MessageReader(message.body).u32());
  if (request == AuthenticationRequest::Ok && !challenged_) return on_granted_unchallenged(message);
  challenged_ = challenged_ || is_challenge(request);
  client_speaks_ = wants_answer(request);
  if (request == AuthenticationRequest::Sasl) {
    offer_mechanisms(message);
    return Step::Continue;
  }
  return pass_on(message);
}

void Login::offer_mechanisms(const Message& message) {
  // Asked again over another connection, on behalf of an answer that the client gave already.
  if (std::exchange(mechanisms_offered_, true)) return;
  // Channel binding ties the login to the TLS connection that carries it; the client's ends here.
  MessageReader reader(message.body);
  to_client_.begin(backend::kAuthentication);
  to_client_.u32(reader.u32());
  while (!reader.at_end()) {
    const std::string_view mechanism = reader.string();
    if (!mechanism.ends_with(kChannelBindingSuffix)) to_client_.string(mechanism);
    if (mechanism.empty()) break;
  }
  to_client_.end();
}

Login::Step Login::on_client_message(const Message& message) {
  if (message.type == frontend::kTerminate) return Step::Done;
  if (message.type != frontend::kPassword) {
    throw Error(sqlstate::kProtocolViolation,
                fmt::format("expected password response, got message type {}", int{message.type}));
  }
  if (result_.backend.stream->encrypted() && channel_binding_flag(message.body) == 'y') {
    // The client came over TLS and saw no channel binding on offer. A server with TLS of its own
    // must take that for an attack (RFC 5802 section 6), so it may not have TLS.
    if (request_.target.ssl_mode != SslMode::Prefer) {
      throw Error(sqlstate::kInvalidAuthorization,
                  "SCRAM authentication cannot pass through holdfast with TLS on both sides")
          .detail(
              "The client asks the server to confirm that it offers no channel binding, and a "
              "server reached over TLS does offer it.")
          .hint(
              "Connect with channel_binding=disable, or let holdfast reach PostgreSQL over its "
              "Unix socket (or with sslmode=prefer or disable).");
    }
    connect(Route::Tcp, Encryption::Avoid);
    // The server's new offer is not shown again: the client has answered it.
    for (;;) {
      const auto offer = first_message(result_.backend.input.data(), kMaxLoginMessageBytes);
      if (offer && offer->type == backend::kErrorResponse) break;  // the loop passes it on
      if (offer) {
        result_.backend.input.consume(offer->whole.size());
        if (offer->type == backend::kAuthentication) break;
        continue;
      }
      client_speaks_ = false;
      if (!read_more()) return Step::Done;
    }
  }
  client_speaks_ = false;
  result_.backend.stream->write_all(message.whole);
  return Step::Continue;
}

Login::Step Login::on_granted_unchallenged(const Message& message) {
  // `trust` or `peer`, and PostgreSQL judged by holdfast's address and OS user instead of the
  // client's. Only a client for whom the answer would have been the same may take it.
  if (request_.origin.administrator) return pass_on(message);
  if (!request_.origin.same_host && !request_.remote_trust_allowed) {
    throw Error(sqlstate::kInvalidAuthorization,
                fmt::format("user \"{}\" cannot log in from another host without a password",
                            request_.parameters.user))
        .detail(
            "PostgreSQL sees holdfast's connections come from its own host, and trusts that "
            "host.")
        .hint(
            "Use scram-sha-256 for this user in pg_hba.conf, or allow it in holdfast's "
            "configuration.");
  }
  if (route_ == Route::Tcp || request_.target.socket_has_no_peer_rule) return pass_on(message);
  // What `peer` would have said to the client itself.
  if (request_.origin.os_user == request_.parameters.user) return pass_on(message);
  if (!request_.target.host.empty()) return ask_over_tcp(message);
  throw Error(sqlstate::kInvalidAuthorization,
              fmt::format("user \"{}\" cannot log in without a password through holdfast",
                          request_.parameters.user))
      .detail(
          "PostgreSQL may have taken holdfast's operating system user for yours (pg_hba.conf, "
          "peer), and does not listen on TCP, where holdfast could check that.")
      .hint(
          "Use scram-sha-256 for this user in pg_hba.conf, or connect as holdfast's operating "
          "system user.");
}

Login::Step Login::ask_over_tcp(const Message& granted) {
  const Bytes kept(granted.whole.begin(), granted.whole.end());
  // Over TCP the OS user plays no part. If that is granted as well, the rule is `trust`, and the
  // faster connection can stay.
  auto socket_stream = std::move(result_.backend.stream);
  ReadBuffer socket_input = std::move(result_.backend.input);
  connect(Route::Tcp, Encryption::AsConfigured);
  for (;;) {
    const auto message = first_message(result_.backend.input.data(), kMaxLoginMessageBytes);
    if (!message) {
      client_speaks_ = false;
      if (!read_more()) return Step::Done;
      continue;
    }
    if (message->type == backend::kErrorResponse) return on_server_message(*message);
    if (message->type == backend::kAuthentication) {
      const auto answer = static_cast<AuthenticationRequest>(MessageReader(message->body).u32());
      if (answer != AuthenticationRequest::Ok) return Step::Continue;  // the loop takes it up
      break;
    }
    result_.backend.input.consume(message->whole.size());
  }
  MessageWriter terminate;
  write_empty(terminate, frontend::kTerminate);
  result_.backend.stream->write_all(terminate.view());
  request_.handle.set_server(socket_stream->fd());
  result_.backend.stream = std::move(socket_stream);
  result_.backend.input = std::move(socket_input);
  to_client_.bytes(kept);
  return Step::Continue;
}

}  // namespace

LoginResult log_in(const LoginRequest& request) {
  LoginResult result = Login(request).run();
  if (result.outcome != LoginOutcome::LoggedIn) {
    request.handle.set_server(-1);
    result.backend.stream.reset();
  }
  return result;
}

}  // namespace holdfast::pgwire
