#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace holdfast::pgwire {

/// libpq's sslmode. "allow" is read as Prefer.
enum class SslMode { Disable, Prefer, Require, VerifyCa, VerifyFull };

/// Where PostgreSQL listens. At least one of socket_directory and host is given; the Unix socket is
/// preferred because it is faster.
struct UpstreamTarget {
  std::string socket_directory;  ///< empty: PostgreSQL has no Unix socket that we can reach
  std::string host;              ///< empty: PostgreSQL does not listen on TCP
  std::uint16_t port = 5432;
  SslMode ssl_mode = SslMode::Prefer;  ///< for TCP
  std::string ssl_root_certificate;    ///< file; empty: the system's roots
  /// True when no `local` rule of pg_hba.conf uses the operating system's user, that is when
  ///   SELECT NOT EXISTS (SELECT FROM pg_hba_file_rules
  ///                      WHERE type = 'local' AND auth_method IN ('peer', 'ident'))
  /// holds. Otherwise PostgreSQL would take a stranger who comes through holdfast for holdfast's
  /// own OS user; a login that its Unix socket grants without a challenge is then checked again
  /// over TCP, and refused when PostgreSQL has no TCP.
  bool socket_has_no_peer_rule = false;
};

/// What the front door asks about the PostgreSQL behind it. Thread-safe; called once for each
/// session and each cancel request.
class Upstream {
 public:
  virtual ~Upstream() = default;
  /// Absent while PostgreSQL is known to be down. A target that does not answer counts as down
  /// too, so an implementation need not probe.
  virtual std::optional<UpstreamTarget> target() = 0;
  /// The server_version to tell a local administrator while PostgreSQL is down: the last one seen,
  /// "0" when there was none.
  virtual std::string last_server_version() = 0;
  /// A sentence for the detail of 57P03, such as "Job 42 is restoring it."; empty when there is
  /// nothing to say.
  virtual std::string down_reason() = 0;
};

}  // namespace holdfast::pgwire
