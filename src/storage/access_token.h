#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/stop.h"
#include "net/http.h"
#include "storage/renewed.h"

namespace holdfast::storage {

/// An OAuth 2.0 access token.
struct AccessToken {
  std::string text;
  std::optional<Time> expires = std::nullopt;  ///< absent: not known to expire
};

/// Keeps a token as Renewed does. Thread-safe.
class AccessTokenCache {
 public:
  using Fetch = std::function<AccessToken(const Stop&)>;
  AccessTokenCache(Fetch fetch, const Clock& clock) : fetch_(std::move(fetch)), kept_(clock) {}

  std::string get(const Stop& stop);
  /// Forgets the token, which the server refused.
  void reject();

 private:
  const Fetch fetch_;
  Renewed<AccessToken> kept_;
};

/// Reads {"access_token": …, "expires_in": …}; throws kInvalidAuthorization with `action` for any
/// other answer. Source: RFC 6749, section 5.1.
AccessToken parse_token_answer(const net::HttpResponse& response, std::string_view action,
                               Time now);

}  // namespace holdfast::storage
