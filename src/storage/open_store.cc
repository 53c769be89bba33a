#include "storage/open_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "io/file.h"
#include "storage/keys.h"
#include "storage/local_store.h"
#include "storage/uri.h"
#include "storage/wrappers.h"

namespace holdfast::storage {

namespace {

/// "a/b" of "//a//b/": CockroachDB's users write paths in all these ways.
std::string normalize_path(const std::string& path, std::string_view shown_uri) {
  std::string key;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t slash = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, slash - at);
    at = slash + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      throw Error(
          sqlstate::kInvalidParameterValue,
          fmt::format("storage URI \"{}\" leads out of the external I/O directory", shown_uri))
          .detail("\"..\" is not allowed in the path of a nodelocal URI.");
    }
    key += (key.empty() ? "" : "/") + part;
  }
  return key;
}

void check_nodelocal_parameters(const StorageUri& uri) {
  std::string unknown;
  for (const auto& [name, value] : uri.parameters) {
    if (name == "COCKROACH_LOCALITY") {
      throw Error(sqlstate::kFeatureNotSupported, "locality-aware backups are not supported yet");
    }
    unknown += (unknown.empty() ? "" : ", ") + name;
  }
  if (!unknown.empty()) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("unknown nodelocal query parameters: {}", unknown));
  }
}

std::unique_ptr<ObjectStore> open_nodelocal(std::string_view text, const StorageUri& uri,
                                            const StorageConfig& config) {
  const std::string shown = redact_uri(text);
  if (uri.host.empty()) {
    // The wording of CockroachDB (reference, section 6), which scripts look for.
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("host component of nodelocal URI must be a node ID (use 'self' to "
                            "specify each node should access its own local filesystem): {}",
                            shown));
  }
  check_nodelocal_parameters(uri);
  if (uri.host != "self" && uri.host != config.node_id) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("access to the nodelocal storage of node \"{}\" is not supported yet",
                            uri.host))
        .detail(fmt::format("This is node \"{}\".", config.node_id))
        .hint(fmt::format("Use nodelocal://self/… or nodelocal://{}/….", config.node_id));
  }
  if (config.external_io_dir.empty()) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState, "nodelocal storage is turned off")
        .hint("Start holdfast with --external-io-dir to name the directory for it.");
  }
  return open_local_store({.root_directory = config.external_io_dir,
                           .prefix = normalize_path(uri.path, shown),
                           .description = shown,
                           .files = config.files});
}

using OpenDriver = std::unique_ptr<ObjectStore> (*)(std::string_view text, const StorageUri& uri,
                                                    const StorageConfig& config);

/// Null: a scheme of the statements' reference whose driver is missing.
struct Driver {
  std::string_view scheme;
  OpenDriver open = nullptr;
  std::string_view missing;  ///< what to call it then
};

constexpr std::array kDrivers = {
    Driver{.scheme = "nodelocal", .open = open_nodelocal, .missing = {}},
    Driver{.scheme = "s3", .open = nullptr, .missing = "Amazon S3"},
    Driver{.scheme = "gs", .open = nullptr, .missing = "Google Cloud Storage"},
    Driver{.scheme = "azure", .open = nullptr, .missing = "Azure Blob Storage"},
    Driver{.scheme = "azure-blob", .open = nullptr, .missing = "Azure Blob Storage"},
    Driver{.scheme = "azure-storage", .open = nullptr, .missing = "Azure Blob Storage"},
    Driver{.scheme = "http", .open = nullptr, .missing = "HTTP"},
    Driver{.scheme = "https", .open = nullptr, .missing = "HTTP"},
    Driver{.scheme = "file-http", .open = nullptr, .missing = "HTTP"},
    Driver{.scheme = "file-https", .open = nullptr, .missing = "HTTP"},
    Driver{.scheme = "userfile", .open = nullptr, .missing = "userfile"},
    Driver{.scheme = "external", .open = nullptr, .missing = "external connection"},
    Driver{.scheme = "nullsink", .open = nullptr, .missing = "nullsink"},
};

}  // namespace

std::unique_ptr<ObjectStore> open_store(std::string_view uri, const StorageConfig& config) {
  const StorageUri parsed = parse_uri(uri);
  const auto driver = std::find_if(kDrivers.begin(), kDrivers.end(), [&](const Driver& candidate) {
    return candidate.scheme == parsed.scheme;
  });
  if (driver == kDrivers.end()) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("unsupported storage scheme: \"{}\"", parsed.scheme))
        .hint("Use nodelocal://self/path.");
  }
  if (driver->open == nullptr) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("the {} storage driver (\"{}://\") is not available yet",
                            driver->missing, parsed.scheme))
        .hint("Use nodelocal://self/path.");
  }
  return with_retry(with_log(driver->open(uri, parsed, config)));
}

}  // namespace holdfast::storage
