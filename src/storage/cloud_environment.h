#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "base/clock.h"
#include "net/http.h"

namespace holdfast::storage {

/// Where credentials that no URI names are found: environment variables, files of cloud tools, and
/// services of the machine, asked over HTTP. Tests give their own.
struct CloudEnvironment {
  net::HttpTransport* http = nullptr;
  const Clock* clock = &Clock::system();
  /// Empty when the variable is not set.
  std::function<std::string(const char* name)> variable;
  /// Absent when there is no such file. Throws when it cannot be read.
  std::function<std::optional<std::string>(const std::string& path)> file;

  static CloudEnvironment of_process(net::HttpTransport& http);
};

/// For what may be taken over from the process only where an administrator allows it. Throws
/// kInsufficientPrivilege otherwise, in CockroachDB's words.
void require_implicit_credentials(bool allowed, std::string_view service);

/// The metadata service is on the machine; where there is none, nothing answers at all.
inline constexpr std::chrono::milliseconds kMetadataConnectTimeout{2000};

}  // namespace holdfast::storage
