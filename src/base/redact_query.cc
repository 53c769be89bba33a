#include "base/redact_query.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"

namespace holdfast {

namespace {

constexpr std::string_view kNotShown = "redacted";

/// Parameters whose values are no secrets. AWS_ACCESS_KEY_ID is a name, not a key.
constexpr std::array<std::string_view, 24> kShown = {
    "ACCOUNT",
    "ASSUME_ROLE",
    "AUTH",
    "AWS_ACCESS_KEY_ID",
    "AWS_ENDPOINT",
    "AWS_REGION",
    "AWS_SERVER_ENC_MODE",
    "AWS_SERVER_KMS_ID",
    "AWS_SKIP_CHECKSUM",
    "AWS_SKIP_TLS_VERIFY",
    "AWS_USE_PATH_STYLE",
    "AZURE_ACCOUNT_NAME",
    "AZURE_CLIENT_ID",
    "AZURE_ENDPOINT",
    "AZURE_ENVIRONMENT",
    "AZURE_TENANT_ID",
    "AZURE_VAULT_NAME",
    "COCKROACH_LOCALITY",
    "GOOGLE_BILLING_PROJECT",
    "GOOGLE_ENDPOINT",
    "PROJECT",
    "REGION",
    "S3_STORAGE_CLASS",
    "TRANSPORT",
};

/// Whether there may be an "@" in what the value stands for.
bool may_have_user(std::string_view value) {
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '@') return true;
    if (value[i] != '%') continue;
    const auto byte = from_hex(value.substr(i + 1, 2));
    if (!byte || byte->size() != 1 || byte->front() == std::byte{'@'}) return true;
  }
  return false;
}

std::string redact_parameter(std::string_view parameter) {
  if (parameter.empty()) return {};
  const std::size_t equals = parameter.find('=');
  if (equals == parameter.npos) return std::string(kNotShown);
  const std::string_view name = parameter.substr(0, equals);
  const std::string_view value = parameter.substr(equals + 1);
  // Only as it is spelled there: nothing else is a parameter of ours.
  const bool known = std::find(kShown.begin(), kShown.end(), name) != kShown.end();
  const bool shown = known && !(name.ends_with("_ENDPOINT") && may_have_user(value));
  if (shown || value.empty()) return std::string(parameter);
  return std::string(name).append("=").append(kNotShown);
}

}  // namespace

std::string redact_query(std::string_view query) {
  const std::size_t hash = query.find('#');
  std::string_view rest = query.substr(0, hash);
  std::string shown;
  while (true) {
    const std::size_t end = std::min(rest.find('&'), rest.size());
    shown += redact_parameter(rest.substr(0, end));
    if (end == rest.size()) break;
    shown += '&';
    rest.remove_prefix(end + 1);
  }
  if (hash != query.npos) shown.append("#").append(kNotShown);
  return shown;
}

}  // namespace holdfast
