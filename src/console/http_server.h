#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace holdfast::console {

/// What the pages are made of; called on the server's own threads, for each request.
struct HttpPages {
  /// The body of GET /health, a JSON object, and whether all is well (200) or not (503).
  struct Health {
    bool healthy = false;
    std::string json;
  };
  std::function<Health()> health;
  /// The body of GET /metrics, in Prometheus' text format 0.0.4.
  std::function<std::string()> metrics;
};

struct HttpAddress {
  std::string host;
  std::uint16_t port = 0;  ///< 0: the system chooses
  /// From when a client is connected until it has its answer; then the connection is closed.
  std::chrono::milliseconds longest_request = std::chrono::seconds(10);
};

/// Serves /health and /metrics until it is destroyed. Nothing here needs a password, so nothing
/// here may tell a secret or change anything; the default listen address is the loopback one.
/// Clients that are slow, or many, take no more than a few threads for a bounded time: each
/// connection has one request and one deadline, and those that find no room are closed.
class HttpServer {
 public:
  /// Listens at once. Throws Error (kConfigFileError) when the address cannot be bound.
  HttpServer(const HttpAddress& address, HttpPages pages);
  ~HttpServer();

  /// The bound port; what the system chose if 0 was asked for.
  std::uint16_t port() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace holdfast::console
