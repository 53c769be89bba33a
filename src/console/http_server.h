#pragma once

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

/// Serves /health and /metrics until it is destroyed. Nothing here needs a password, so nothing
/// here may tell a secret or change anything; the default listen address is the loopback one.
class HttpServer {
 public:
  /// Listens at once. Throws Error (kConfigFileError) when the address cannot be bound.
  HttpServer(const std::string& host, std::uint16_t port, HttpPages pages);
  ~HttpServer();

  /// The bound port; what the system chose if 0 was asked for.
  std::uint16_t port() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace holdfast::console
