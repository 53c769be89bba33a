#include "storage/open_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "io/file.h"
#include "net/http_client.h"
#include "storage/azure_store.h"
#include "storage/cloud_environment.h"
#include "storage/gcs_store.h"
#include "storage/http_store.h"
#include "storage/keys.h"
#include "storage/local_store.h"
#include "storage/s3_store.h"
#include "storage/uri.h"
#include "storage/uri_parameters.h"
#include "storage/wrappers.h"

namespace holdfast::storage {

namespace {

void require_plain_access(const StoreAccess& access, std::string_view driver) {
  if (access.lock) throw lock_unsupported(driver);
  if (access.versions_at) throw versions_unsupported(driver);
}

std::unique_ptr<ObjectStore> open_nodelocal(std::string_view text, const StorageUri& uri,
                                            const StorageConfig& config,
                                            const StoreAccess& access) {
  require_plain_access(access, "nodelocal");
  const std::string shown = redact_uri(text);
  if (uri.host.empty()) {
    // The wording of CockroachDB (reference, section 6), which scripts look for.
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("host component of nodelocal URI must be a node ID (use 'self' to "
                            "specify each node should access its own local filesystem): {}",
                            shown));
  }
  UriParameters(uri, "nodelocal").finish();
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
                           .prefix = normalize_path(uri.path, shown, "the external I/O directory"),
                           .description = shown,
                           .files = config.files});
}

std::unique_ptr<net::HttpTransport> open_http(const StorageConfig& config, bool verify_tls) {
  return std::make_unique<net::HttpClient>(
      net::HttpClientOptions{.ca_file = config.ca_file, .verify_tls = verify_tls});
}

std::unique_ptr<ObjectStore> open_s3(std::string_view text, const StorageUri& uri,
                                     const StorageConfig& config, const StoreAccess& access) {
  const std::string shown = redact_uri(text);
  const S3Options options = parse_s3_uri(uri, shown);
  refuse_endpoint(config, options.endpoint, "s3");
  if (options.auth.implicit) {
    require_implicit_credentials(!config.disable_implicit_credentials, "s3");
  }
  S3Parts parts = {.http = open_http(config, !options.skip_tls_verify),
                   .environment = {},
                   .description = shown,
                   .access = access};
  parts.environment = CloudEnvironment::of_process(*parts.http);
  return open_s3_store(options, std::move(parts));
}

std::unique_ptr<ObjectStore> open_azure(std::string_view text, const StorageUri& uri,
                                        const StorageConfig& config, const StoreAccess& access) {
  const std::string shown = redact_uri(text);
  const AzureOptions options = parse_azure_uri(uri, shown);
  if (options.own_endpoint) refuse_endpoint(config, options.endpoint, "azure");
  if (options.auth.kind == AzureAuthKind::Implicit) {
    require_implicit_credentials(!config.disable_implicit_credentials, "azure");
  }
  AzureParts parts = {
      .http = open_http(config, true), .environment = {}, .description = shown, .access = access};
  parts.environment = CloudEnvironment::of_process(*parts.http);
  return open_azure_store(options, std::move(parts));
}

std::unique_ptr<ObjectStore> open_gs(std::string_view text, const StorageUri& uri,
                                     const StorageConfig& config, const StoreAccess& access) {
  const std::string shown = redact_uri(text);
  const GcsOptions options = parse_gcs_uri(uri, shown);
  if (options.own_endpoint) refuse_endpoint(config, options.endpoint, "gs");
  if (options.auth.implicit) {
    require_implicit_credentials(!config.disable_implicit_credentials, "gs");
  }
  GcsParts parts = {
      .http = open_http(config, true), .environment = {}, .description = shown, .access = access};
  parts.environment = CloudEnvironment::of_process(*parts.http);
  return open_gcs_store(options, std::move(parts));
}

std::unique_ptr<ObjectStore> open_http_uri(std::string_view text, const StorageUri& uri,
                                           const StorageConfig& config, const StoreAccess& access) {
  require_plain_access(access, "http");
  const std::string shown = redact_uri(text);
  if (config.disable_http) {
    throw Error(sqlstate::kInsufficientPrivilege,
                "external http access disabled due to --external-io-disable-http flag");
  }
  if (uri.host.empty()) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("storage URI \"{}\" names no host", shown));
  }
  // Else a part of the password would be taken for the host, and named in errors.
  const std::string_view server = std::string_view(uri.host).substr(uri.host.rfind('@') + 1);
  const std::size_t address_end = server.starts_with('[') ? server.find(']') : 0;
  const std::size_t port = server.find(':', address_end);
  if (port != server.npos && server.find_first_not_of("0123456789", port + 1) != server.npos) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("storage URI \"{}\" has a port that is no number", shown))
        .hint("In a password, write / as %2F, ? as %3F, # as %23 and @ as %40.");
  }
  // Sent as it was written: a web server may make something of any parameter.
  std::string url(text.substr(0, text.find('#')));
  const std::size_t question = std::min(url.find('?'), url.size());
  std::string query = url.substr(std::min(question + 1, url.size()));
  url.resize(question);
  while (url.ends_with('/')) url.pop_back();
  if (uri.scheme.starts_with("file-")) url.erase(0, std::string_view("file-").size());
  return open_http_store({.base_url = url, .query = query, .description = shown},
                         open_http(config, true));
}

std::unique_ptr<ObjectStore> open_userfile(std::string_view text, const StorageUri& /*uri*/,
                                           const StorageConfig& config, const StoreAccess& access) {
  require_plain_access(access, "userfile");
  const UserfilePlace place = parse_userfile_uri(text, "");
  if (!config.open_userfile) {
    throw Error(sqlstate::kFeatureNotSupported, "userfile storage is not available here")
        .detail("Its objects are in PostgreSQL, which only the daemon connects to.");
  }
  return config.open_userfile(place);
}

using OpenDriver = std::unique_ptr<ObjectStore> (*)(std::string_view text, const StorageUri& uri,
                                                    const StorageConfig& config,
                                                    const StoreAccess& access);

/// Null: a scheme of the statements' reference whose driver is missing.
struct Driver {
  std::string_view scheme;
  std::string_view name;  ///< what normalize_scheme() answers
  OpenDriver open = nullptr;
  std::string_view missing = {};  ///< what to call it then
};

constexpr std::array kDrivers = {
    Driver{.scheme = "nodelocal", .name = "nodelocal", .open = open_nodelocal},
    Driver{.scheme = "s3", .name = "s3", .open = open_s3},
    Driver{.scheme = "gs", .name = "gs", .open = open_gs},
    Driver{.scheme = "azure", .name = "azure-blob", .open = open_azure},
    Driver{.scheme = "azure-blob", .name = "azure-blob", .open = open_azure},
    Driver{.scheme = "azure-storage", .name = "azure-blob", .open = open_azure},
    Driver{.scheme = "http", .name = "http", .open = open_http_uri},
    Driver{.scheme = "https", .name = "http", .open = open_http_uri},
    Driver{.scheme = "file-http", .name = "http", .open = open_http_uri},
    Driver{.scheme = "file-https", .name = "http", .open = open_http_uri},
    Driver{.scheme = "userfile", .name = "userfile", .open = open_userfile},
    Driver{.scheme = "external",
           .name = "external",
           .open = nullptr,
           .missing = "external connection"},
    Driver{.scheme = "nullsink", .name = "nullsink", .open = nullptr, .missing = "nullsink"},
};

const Driver* find_driver(std::string_view scheme) {
  const auto* const driver =
      std::find_if(kDrivers.begin(), kDrivers.end(),
                   [&](const Driver& candidate) { return candidate.scheme == scheme; });
  return driver == kDrivers.end() ? nullptr : driver;
}

/// A service across a network asks for more patience than a file system: it throttles, restarts
/// and loses connections.
constexpr RetryPolicy kPatient = {.attempts = 8,
                                  .first_delay = std::chrono::milliseconds(200),
                                  .longest_delay = std::chrono::seconds(10)};

}  // namespace

void refuse_endpoint(const StorageConfig& config, const std::string& endpoint,
                     std::string_view service) {
  if (!config.disable_http || endpoint.empty()) return;
  // The wording of CockroachDB (reference, section 6).
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("custom endpoints disallowed for {} due to --external-io-disable-http "
                          "flag",
                          service));
}

std::string_view normalize_scheme(std::string_view scheme) {
  const Driver* driver = find_driver(scheme);
  return driver == nullptr ? std::string_view() : driver->name;
}

std::unique_ptr<ObjectStore> open_store(std::string_view uri, const StorageConfig& config,
                                        const StoreAccess& access) {
  const StorageUri parsed = parse_uri(uri);
  const Driver* driver = find_driver(parsed.scheme);
  if (driver == nullptr) {
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
  std::unique_ptr<ObjectStore> store = driver->open(uri, parsed, config, access);
  const auto limits = config.rate_limits.find(driver->name);
  if (limits != config.rate_limits.end()) {
    store = with_rate_limit(std::move(store), limits->second);
  }
  return with_retry(with_log(std::move(store)),
                    driver->name == "nodelocal" ? RetryPolicy() : kPatient);
}

}  // namespace holdfast::storage
