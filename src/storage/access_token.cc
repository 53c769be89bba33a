#include "storage/access_token.h"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "storage/http_errors.h"

namespace holdfast::storage {

namespace {}  // namespace

std::string AccessTokenCache::get(const Stop& stop) {
  {
    const MutexLock lock(mutex_);
    if (kept_ && (!kept_->expires || clock_.now() + kBeforeExpiry < *kept_->expires)) {
      return kept_->text;
    }
  }
  // Without the lock, because this may take seconds. Two threads that fetch at once do no harm.
  AccessToken fetched = fetch_(stop);
  const MutexLock lock(mutex_);
  kept_ = std::move(fetched);
  return kept_->text;
}

void AccessTokenCache::reject() {
  const MutexLock lock(mutex_);
  kept_.reset();
}

AccessToken parse_token_answer(const net::HttpResponse& response, std::string_view action,
                               Time now) {
  if (!response.success()) throw http_error(action, response, parse_json_error(response.body));
  const auto document = nlohmann::json::parse(as_text(response.body), nullptr, false);
  if (!document.is_object() || !document.contains("access_token") ||
      !document["access_token"].is_string()) {
    throw Error(sqlstate::kInvalidAuthorization,
                fmt::format("{}: the answer holds no access token", action));
  }
  AccessToken token = {.text = document["access_token"].get<std::string>()};
  const auto seconds = document.find("expires_in");
  if (seconds != document.end()) {
    // Azure's metadata service sends the number as a string.
    const long long number = seconds->is_string()
                                 ? std::atoll(seconds->get<std::string>().c_str())
                                 : (seconds->is_number() ? seconds->get<long long>() : 0);
    if (number > 0) token.expires = now + std::chrono::seconds(number);
  }
  return token;
}

}  // namespace holdfast::storage
