#include "pgwire/dialer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "net/socket.h"
#include "net/tls.h"
#include "pgwire/message_writer.h"
#include "pgwire/protocol.h"

namespace holdfast::pgwire {

namespace {

constexpr std::chrono::milliseconds kConnectTimeout{10'000};

net::TlsClientOptions tls_options(const UpstreamTarget& target) {
  net::TlsClientOptions options{.root_certificate_file = target.ssl_root_certificate,
                                .host = target.host};
  if (target.ssl_mode == SslMode::VerifyFull) options.verify = net::TlsVerify::ChainAndName;
  // libpq checks the chain with "require" too when a root certificate is given.
  if (target.ssl_mode == SslMode::VerifyCa ||
      (target.ssl_mode == SslMode::Require && !target.ssl_root_certificate.empty()))
    options.verify = net::TlsVerify::Chain;
  return options;
}

/// Asks the server for TLS; true when it agrees. Reads exactly the one byte of the answer: what an
/// attacker put behind it must not be taken for encrypted data.
bool ask_for_tls(net::Stream& server, net::Deadline deadline) {
  MessageWriter request;
  request.begin_untyped();
  request.u32(kSslRequestCode);
  request.end();
  server.write_all(request.view());
  std::array<std::byte, 1> answer{};
  const auto got = net::read_before(server, answer, deadline);
  if (!got || *got == 0) {
    throw Error(sqlstate::kConnectionFailure,
                "could not connect to PostgreSQL: no answer to the request for TLS");
  }
  const char letter = static_cast<char>(answer[0]);
  if (letter != 'S' && letter != 'N') {
    throw Error(sqlstate::kConnectionFailure,
                "could not connect to PostgreSQL: unexpected answer to the request for TLS");
  }
  return letter == 'S';
}

}  // namespace

std::unique_ptr<net::Stream> SocketDialer::dial(const UpstreamTarget& target, Route route,
                                                Encryption encryption, net::Deadline deadline) {
  if (route == Route::UnixSocket) {
    return std::make_unique<net::SocketStream>(
        net::connect_unix(fmt::format("{}/.s.PGSQL.{}", target.socket_directory, target.port)));
  }
  auto stream = std::make_unique<net::SocketStream>(
      net::connect_tcp(target.host, target.port, kConnectTimeout));
  if (target.ssl_mode == SslMode::Disable || encryption == Encryption::Avoid) return stream;
  if (ask_for_tls(*stream, deadline))
    return net::tls_connect(stream->release(), tls_options(target), deadline);
  if (target.ssl_mode == SslMode::Prefer) return stream;
  throw Error(sqlstate::kInvalidAuthorization,
              "PostgreSQL does not support TLS, but it was required");
}

}  // namespace holdfast::pgwire
