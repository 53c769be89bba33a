#pragma once

#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "net/stream.h"

struct ssl_ctx_st;

namespace holdfast::net {

/// Certificate and key of a TLS server. Thread-safe once made.
class TlsServer {
 public:
  /// Throws Error with kConfigFileError when a file cannot be read or the key does not fit.
  TlsServer(const std::string& certificate_file, const std::string& key_file);
  ~TlsServer();
  TlsServer(const TlsServer&) = delete;
  TlsServer& operator=(const TlsServer&) = delete;

  /// Shakes hands as the server; throws Error with kConnectionFailure when that fails or takes
  /// longer than the deadline. A client that offers protocols (ALPN) must offer "postgresql".
  std::unique_ptr<Stream> accept(UniqueFd socket, Deadline deadline) const;

 private:
  ssl_ctx_st* context_;
};

/// How far a TLS client trusts the server's certificate.
enum class TlsVerify { None, Chain, ChainAndName };

struct TlsClientOptions {
  TlsVerify verify = TlsVerify::None;
  std::string root_certificate_file;  ///< empty: the system's
  std::string host;                   ///< for the name check and SNI
};

/// Shakes hands as a client; throws Error with kConnectionFailure when that fails.
std::unique_ptr<Stream> tls_connect(UniqueFd socket, const TlsClientOptions& options,
                                    Deadline deadline);

}  // namespace holdfast::net
