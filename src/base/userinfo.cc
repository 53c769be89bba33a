#include "base/userinfo.h"

#include <algorithm>

namespace holdfast {

namespace {

constexpr std::string_view kRedacted = "redacted";

bool is_port(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Where the user's password, if there is one, ends the part that may be shown: at the first ":" of
/// `authority` that begins neither a port nor a part of an IPv6 address.
std::size_t password_start(std::string_view authority) {
  if (authority.starts_with('[')) return authority.npos;
  const std::size_t colon = authority.find(':');
  if (colon == authority.npos || is_port(authority.substr(colon + 1))) return authority.npos;
  return colon;
}

}  // namespace

std::string redact_userinfo(std::string_view text) {
  const std::string_view authority = text.substr(0, text.find_first_of("/?#"));
  if (const std::size_t at = authority.rfind('@'); at != authority.npos) {
    const std::size_t colon = authority.substr(0, at).find(':');
    std::string shown;
    if (colon != authority.npos) shown = std::string(authority.substr(0, colon + 1));
    return shown.append(kRedacted).append(text.substr(at));
  }
  const std::size_t colon = password_start(authority);
  if (colon == authority.npos) return std::string(text);
  // Not a port: the beginning of a password, which goes on behind a delimiter.
  std::string shown = std::string(text.substr(0, colon + 1)).append(kRedacted);
  const std::size_t at = text.rfind('@');
  if (at != text.npos) return shown.append(text.substr(at));
  return shown.append(text.substr(authority.size()));
}

}  // namespace holdfast
