#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/stop.h"

namespace holdfast::net {

enum class HttpMethod { Get, Head, Put, Post, Delete };
std::string_view to_string(HttpMethod method);

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  HttpMethod method = HttpMethod::Get;
  std::string url;  ///< percent-encoded; may hold secrets, so it is in no message
  HttpHeaders headers = {};
  /// Sent one after the other, with their sum as Content-Length.
  std::vector<ByteView> body = {};
  /// Where the body of a 2xx answer goes, instead of HttpResponse::body.
  std::optional<MutableByteView> into = std::nullopt;
  /// The most that HttpResponse::body may hold.
  std::uint64_t body_limit = 64U << 20;
  bool follow_redirects = false;
  /// For servers that are part of the machine, such as a cloud's metadata service.
  bool without_proxy = false;
  std::optional<std::chrono::milliseconds> connect_timeout = std::nullopt;
};

struct HttpResponse {
  int status = 0;
  HttpHeaders headers = {};  ///< names in lower case
  Bytes body = {};
  /// Bytes of the body, wherever they went.
  std::uint64_t body_bytes = 0;

  bool success() const { return status >= 200 && status < 300; }
  /// The first header of this (lower-case) name; empty when there is none.
  std::string_view header(std::string_view name) const;
};

/// What sends a request and waits for the whole answer, whatever its status. May be called from
/// several threads at once.
class HttpTransport {
 public:
  virtual ~HttpTransport() = default;
  /// Throws Error (kConnectionFailure, with Retry::Safe where another try may help) when no whole
  /// answer came, Stopped when asked to stop.
  virtual HttpResponse send(const HttpRequest& request, const Stop& stop) = 0;
};

/// "https://host:9000" of a URL: all of it that may be in a message.
std::string origin_of(std::string_view url);

}  // namespace holdfast::net
