#include "net/http.h"

#include <algorithm>

namespace holdfast::net {

std::string_view to_string(HttpMethod method) {
  switch (method) {
    case HttpMethod::Get:
      return "GET";
    case HttpMethod::Head:
      return "HEAD";
    case HttpMethod::Put:
      return "PUT";
    case HttpMethod::Post:
      return "POST";
    case HttpMethod::Delete:
      return "DELETE";
  }
  return "GET";
}

std::string_view HttpResponse::header(std::string_view name) const {
  const auto found = std::find_if(headers.begin(), headers.end(),
                                  [&](const auto& header) { return header.first == name; });
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

std::string origin_of(std::string_view url) {
  const std::size_t scheme = url.find("://");
  const std::size_t begin = scheme == url.npos ? 0 : scheme + 3;
  const std::size_t end = std::min(url.find_first_of("/?#", begin), url.size());
  // A user and password before "@" are secret.
  const std::size_t at = url.substr(0, end).rfind('@');
  const std::size_t host = at != url.npos && at >= begin ? at + 1 : begin;
  return std::string(url.substr(0, begin)) + std::string(url.substr(host, end - host));
}

}  // namespace holdfast::net
