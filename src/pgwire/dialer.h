#pragma once

#include <chrono>
#include <memory>

#include "net/stream.h"
#include "pgwire/upstream.h"

namespace holdfast::pgwire {

/// Ways to reach one PostgreSQL.
enum class Route { UnixSocket, Tcp };
/// Whether a TCP connection may use TLS; the target's ssl_mode says whether it must.
enum class Encryption { AsConfigured, Avoid };

/// Opens connections to PostgreSQL, up to but without the StartupMessage. A seam for tests.
class Dialer {
 public:
  virtual ~Dialer() = default;
  /// Throws Error with kConnectionFailure when PostgreSQL does not answer, and with
  /// kInvalidAuthorization when it does not do TLS although ssl_mode wants it.
  virtual std::unique_ptr<net::Stream> dial(const UpstreamTarget& target, Route route,
                                            Encryption encryption, net::Deadline deadline) = 0;
};

class SocketDialer : public Dialer {
 public:
  std::unique_ptr<net::Stream> dial(const UpstreamTarget& target, Route route,
                                    Encryption encryption, net::Deadline deadline) override;
};

/// The route to try first.
inline Route preferred_route(const UpstreamTarget& target) {
  return target.socket_directory.empty() ? Route::Tcp : Route::UnixSocket;
}

}  // namespace holdfast::pgwire
