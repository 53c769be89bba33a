#include "storage/access_token.h"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "storage/http_errors.h"

namespace holdfast::storage {

std::string AccessTokenCache::get(const Stop& stop) { return kept_.get(fetch_, stop).text; }

void AccessTokenCache::reject() {
  kept_.forget_if([](const AccessToken&) { return true; });
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
