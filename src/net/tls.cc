#include "net/tls.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/error.h"

namespace holdfast::net {

namespace {

struct SslDeleter {
  void operator()(SSL* ssl) const { ::SSL_free(ssl); }
};
struct ContextDeleter {
  void operator()(SSL_CTX* context) const { ::SSL_CTX_free(context); }
};
using Ssl = std::unique_ptr<SSL, SslDeleter>;
using Context = std::unique_ptr<SSL_CTX, ContextDeleter>;

// The ALPN name of the PostgreSQL protocol.
// Source: PostgreSQL 17 src/include/libpq/pqcomm.h (PG_ALPN_PROTOCOL).
constexpr std::string_view kProtocolName = "\x0apostgresql";

/// What OpenSSL says last, and forgets it.
std::string openssl_reason() {
  std::string reason;
  while (const unsigned long code = ::ERR_get_error()) {
    const char* text = ::ERR_reason_error_string(code);
    reason = text != nullptr ? text : fmt::format("OpenSSL error {:08x}", code);
  }
  return reason.empty() ? "connection closed" : reason;
}

[[noreturn]] void throw_tls(std::string_view action, std::string_view reason) {
  throw Error(sqlstate::kConnectionFailure, fmt::format("could not {}: {}", action, reason));
}

Context make_context(const SSL_METHOD* method) {
  Context context(::SSL_CTX_new(method));
  if (!context) throw_tls("set up TLS", openssl_reason());
  ::SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  ::SSL_CTX_set_mode(context.get(),
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Renegotiation would make reads need writes; session tickets are of no use to database clients.
  // A peer that closes without close_notify is simply gone, as with plain sockets: the protocol's
  // own lengths tell a truncated message.
  ::SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                                           SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  ::SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  return context;
}

int select_protocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                    const unsigned char* offered, unsigned int offered_size, void*) {
  unsigned char* match = nullptr;
  const int status = ::SSL_select_next_proto(
      &match, chosen_size, reinterpret_cast<const unsigned char*>(kProtocolName.data()),
      static_cast<unsigned int>(kProtocolName.size()), offered, offered_size);
  *chosen = match;
  return status == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

class TlsStream : public Stream {
 public:
  TlsStream(UniqueFd socket, Ssl ssl) : socket_(std::move(socket)), ssl_(std::move(ssl)) {}
  ~TlsStream() override {
    ::SSL_shutdown(ssl_.get());
    ::ERR_clear_error();
  }

  std::optional<std::size_t> try_read(MutableByteView into) override {
    ::ERR_clear_error();
    std::size_t got = 0;
    if (::SSL_read_ex(ssl_.get(), into.data(), into.size(), &got) == 1) return got;
    switch (::SSL_get_error(ssl_.get(), 0)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE:
        return std::nullopt;
      case SSL_ERROR_ZERO_RETURN:
        return 0;
      case SSL_ERROR_SYSCALL:
        if (errno == 0 || errno == ECONNRESET || errno == EPIPE) return 0;
        throw_tls("receive data", std::strerror(errno));
      default:
        throw_tls("receive data over TLS", openssl_reason());
    }
  }

  std::optional<std::size_t> read_soon(MutableByteView into) override {
    if (const auto got = try_read(into)) return got;
    pollfd polled{socket_.get(), POLLIN, 0};
    if (::poll(&polled, 1, static_cast<int>(kMoment.count())) <= 0) return std::nullopt;
    return try_read(into);
  }

  std::size_t try_write(ByteView bytes) override {
    if (bytes.empty()) return 0;
    ::ERR_clear_error();
    std::size_t sent = 0;
    // After a refused write OpenSSL wants the same bytes again, from wherever they lie now; callers
    // never give up on bytes that they began to send.
    if (::SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &sent) == 1) return sent;
    switch (::SSL_get_error(ssl_.get(), 0)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE:
        return 0;
      case SSL_ERROR_SYSCALL:
        throw_tls("send data", std::strerror(errno));
      default:
        throw_tls("send data over TLS", openssl_reason());
    }
  }

  void write_all(ByteView bytes) override {
    while (!bytes.empty()) {
      const std::size_t sent = try_write(bytes);
      bytes = bytes.subspan(sent);
      if (sent != 0) continue;
      pollfd polled{socket_.get(), POLLOUT, 0};
      if (::poll(&polled, 1, -1) < 0 && errno != EINTR) throw_errno("wait for a connection");
    }
  }

  bool buffered() const override { return ::SSL_has_pending(ssl_.get()) == 1; }
  int fd() const override { return socket_.get(); }
  bool encrypted() const override { return true; }

 private:
  UniqueFd socket_;
  Ssl ssl_;
};

/// Makes the handshake on a socket that is made non-blocking for good.
std::unique_ptr<Stream> shake_hands(UniqueFd socket, Ssl ssl, int (*step)(SSL*),
                                    Deadline deadline) {
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    throw_errno("prepare a socket");
  if (::SSL_set_fd(ssl.get(), socket.get()) != 1) throw_tls("set up TLS", openssl_reason());
  for (;;) {
    ::ERR_clear_error();
    const int status = step(ssl.get());
    if (status == 1) return std::make_unique<TlsStream>(std::move(socket), std::move(ssl));
    const int error = ::SSL_get_error(ssl.get(), status);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
      const long verified = ::SSL_get_verify_result(ssl.get());
      throw_tls("accept the TLS handshake", verified != X509_V_OK
                                                ? ::X509_verify_cert_error_string(verified)
                                                : openssl_reason());
    }
    int timeout = -1;
    if (deadline) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(
          *deadline - std::chrono::steady_clock::now());
      timeout = static_cast<int>(std::max<std::int64_t>(left.count(), 0));
    }
    pollfd polled{socket.get(), static_cast<short>(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT),
                  0};
    const int ready = ::poll(&polled, 1, timeout);
    if (ready == 0) throw_tls("accept the TLS handshake", "timeout");
    if (ready < 0 && errno != EINTR) throw_errno("wait for a connection");
  }
}

}  // namespace

TlsServer::TlsServer(const std::string& certificate_file, const std::string& key_file)
    : context_(nullptr) {
  Context context = make_context(::TLS_server_method());
  if (::SSL_CTX_use_certificate_chain_file(context.get(), certificate_file.c_str()) != 1) {
    throw Error(sqlstate::kConfigFileError, fmt::format("could not load TLS certificate \"{}\": {}",
                                                        certificate_file, openssl_reason()));
  }
  if (::SSL_CTX_use_PrivateKey_file(context.get(), key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      ::SSL_CTX_check_private_key(context.get()) != 1) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("could not load TLS key \"{}\": {}", key_file, openssl_reason()))
        .hint("The key must be the certificate's, in PEM form and without a passphrase.");
  }
  ::SSL_CTX_set_alpn_select_cb(context.get(), select_protocol, nullptr);
  context_ = context.release();
}

TlsServer::~TlsServer() { ::SSL_CTX_free(context_); }

std::unique_ptr<Stream> TlsServer::accept(UniqueFd socket, Deadline deadline) const {
  Ssl ssl(::SSL_new(context_));
  if (!ssl) throw_tls("set up TLS", openssl_reason());
  return shake_hands(std::move(socket), std::move(ssl), ::SSL_accept, deadline);
}

std::unique_ptr<Stream> tls_connect(UniqueFd socket, const TlsClientOptions& options,
                                    Deadline deadline) {
  Context context = make_context(::TLS_client_method());
  if (options.verify != TlsVerify::None) {
    ::SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    const bool loaded =
        options.root_certificate_file.empty()
            ? ::SSL_CTX_set_default_verify_paths(context.get()) == 1
            : ::SSL_CTX_load_verify_file(context.get(), options.root_certificate_file.c_str()) == 1;
    if (!loaded) {
      throw Error(sqlstate::kConfigFileError,
                  fmt::format("could not load root certificate \"{}\": {}",
                              options.root_certificate_file, openssl_reason()));
    }
  }
  Ssl ssl(::SSL_new(context.get()));
  if (!ssl) throw_tls("set up TLS", openssl_reason());
  X509_VERIFY_PARAM* parameters = ::SSL_get0_param(ssl.get());
  const bool is_address = ::X509_VERIFY_PARAM_set1_ip_asc(parameters, options.host.c_str()) == 1;
  if (!is_address && !options.host.empty())
    ::SSL_set_tlsext_host_name(ssl.get(), options.host.c_str());
  if (options.verify == TlsVerify::ChainAndName) {
    if (!is_address && ::SSL_set1_host(ssl.get(), options.host.c_str()) != 1)
      throw_tls("set up TLS", openssl_reason());
  } else if (is_address) {
    ::X509_VERIFY_PARAM_set1_ip(parameters, nullptr, 0);
  }
  return shake_hands(std::move(socket), std::move(ssl), ::SSL_connect, deadline);
}

}  // namespace holdfast::net
