#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "net/http.h"

namespace holdfast::net {

struct HttpClientOptions {
  /// PEM file of certificate authorities that are trusted beside the system's. Empty: none.
  std::string ca_file = {};
  /// Off only where a user asked for it.
  bool verify_tls = true;
  std::chrono::milliseconds connect_timeout{10'000};
  /// A connection that moves nothing for this long is given up. Whole seconds.
  std::chrono::seconds stall_timeout{60};
};

/// HTTP/1.1 over libcurl. Each call takes a connection that an earlier one left open, if there is
/// one. Proxies come from the environment, as curl(1) documents: http_proxy, HTTPS_PROXY, NO_PROXY.
class HttpClient : public HttpTransport {
 public:
  explicit HttpClient(HttpClientOptions options);
  ~HttpClient() override;
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  HttpResponse send(const HttpRequest& request, const Stop& stop) override;

 private:
  struct Handle;
  std::unique_ptr<Handle> take();
  void give_back(std::unique_ptr<Handle> handle);

  const HttpClientOptions options_;
  Mutex mutex_;
  std::vector<std::unique_ptr<Handle>> idle_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::net
