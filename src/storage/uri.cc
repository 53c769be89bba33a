#include "storage/uri.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/redact_query.h"
#include "base/userinfo.h"

namespace holdfast::storage {

namespace {

constexpr std::string_view kRedacted = "redacted";

bool is_scheme(std::string_view text) {
  if (text.empty()) return false;
  // Source: RFC 3986, section 3.1.
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return letter(text.front()) && std::all_of(text.begin(), text.end(), [&](char c) {
           return letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
         });
}

/// Absent when an escape is malformed or stands for NUL.
std::optional<std::string> percent_decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const std::optional<Bytes> byte = from_hex(text.substr(i + 1, 2));
      if (!byte || byte->size() != 1) return std::nullopt;
      c = static_cast<char>(byte->front());
      i += 2;
    }
    if (c == '\0') return std::nullopt;
    decoded.push_back(c);
  }
  return decoded;
}

/// The text cut at its delimiters, still encoded.
struct Parts {
  std::string_view scheme;
  std::string_view host;
  std::string_view path;
  std::string_view query;
};

std::optional<Parts> split(std::string_view text) {
  const std::size_t colon = text.find("://");
  if (colon == text.npos || !is_scheme(text.substr(0, colon))) return std::nullopt;
  Parts parts{.scheme = text.substr(0, colon), .host = {}, .path = {}, .query = {}};
  text.remove_prefix(colon + 3);
  text = text.substr(0, text.find('#'));
  if (const std::size_t question = text.find('?'); question != text.npos) {
    parts.query = text.substr(question + 1);
    text = text.substr(0, question);
  }
  const std::size_t slash = text.find('/');
  parts.host = text.substr(0, slash);
  if (slash != text.npos) parts.path = text.substr(slash + 1);
  return parts;
}

template <typename Visit>
void each_parameter(std::string_view query, const Visit& visit) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view one = query.substr(0, end);
    query = end == query.npos ? std::string_view() : query.substr(end + 1);
    if (one.empty()) continue;
    const std::size_t equals = one.find('=');
    visit(one.substr(0, equals), equals == one.npos ? std::string_view() : one.substr(equals + 1));
  }
}

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("invalid storage URI \"{}\"", redact_uri(text)))
      .detail(std::string(why));
}

}  // namespace

StorageUri parse_uri(std::string_view text) {
  const std::optional<Parts> parts = split(text);
  if (!parts) refuse(text, "A storage URI looks like nodelocal://self/backups.");
  StorageUri uri;
  const auto decode = [&](std::string_view part) {
    std::optional<std::string> decoded = percent_decode(part);
    if (!decoded) refuse(text, "It has a malformed percent escape.");
    return *decoded;
  };
  uri.scheme = parts->scheme;
  std::transform(uri.scheme.begin(), uri.scheme.end(), uri.scheme.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  uri.host = decode(parts->host);
  uri.path = decode(parts->path);
  each_parameter(parts->query, [&](std::string_view name, std::string_view value) {
    uri.parameters.emplace_back(decode(name), decode(value));
  });
  return uri;
}

bool reaches_as_daemon(const StorageUri& uri) {
  if (uri.scheme == "nodelocal" || uri.scheme == "userfile" ||
      uri.scheme.find("http") != std::string::npos)
    return true;
  return std::any_of(uri.parameters.begin(), uri.parameters.end(), [](const auto& parameter) {
    const auto& [name, value] = parameter;
    return (name == "AUTH" && value == "implicit") || name.ends_with("_ENDPOINT");
  });
}

std::string redact_uri(std::string_view text) {
  const std::size_t host = text.find("://");
  if (host == text.npos) return std::string(kRedacted);
  const std::string plain =
      fmt::format("{}://{}", text.substr(0, host), redact_userinfo(text.substr(host + 3)));
  const std::optional<Parts> parts = split(plain);
  if (!parts) return std::string(kRedacted);
  std::string shown = fmt::format("{}://{}", parts->scheme, parts->host);
  if (!parts->path.empty()) shown += fmt::format("/{}", parts->path);
  if (!parts->query.empty()) shown += fmt::format("?{}", redact_query(parts->query));
  return shown;
}

}  // namespace holdfast::storage
