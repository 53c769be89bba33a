#include "storage/cloud_environment.h"

#include <fmt/format.h>

#include <cstdlib>

#include "base/error.h"
#include "io/file.h"

namespace holdfast::storage {

namespace {

/// Credential files hold a few lines.
constexpr std::uint64_t kLongestFile = 1U << 20;

}  // namespace

CloudEnvironment CloudEnvironment::of_process(net::HttpTransport& http) {
  return {.http = &http,
          .clock = &Clock::system(),
          .variable =
              [](const char* name) {
                const char* value = std::getenv(name);
                return std::string(value == nullptr ? "" : value);
              },
          .file = [](const std::string& path) -> std::optional<std::string> {
            const auto bytes = io::read_whole(io::FileSystem::real(), path, kLongestFile);
            if (!bytes) return std::nullopt;
            return std::string(as_text(*bytes));
          }};
}

void require_implicit_credentials(bool allowed, std::string_view service) {
  if (allowed) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("implicit credentials disallowed for {} due to "
                          "--external-io-disable-implicit-credentials flag",
                          service));
}

}  // namespace holdfast::storage
