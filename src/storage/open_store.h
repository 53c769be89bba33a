#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "io/file_system.h"
#include "storage/object_store.h"
#include "storage/store_access.h"
#include "storage/userfile_uri.h"
#include "storage/wrappers.h"

namespace holdfast::storage {

/// What the drivers need to know of the daemon they run in.
struct StorageConfig {
  /// --external-io-dir: what nodelocal URIs name files in. Empty: nodelocal is turned off.
  std::string external_io_dir = {};
  /// The id of this node, as in nodelocal://<id>/…
  std::string node_id = "1";
  /// Tests replace it; null is the kernel's.
  io::FileSystem* files = nullptr;
  /// --storage-ca-file: certificate authorities trusted beside the system's. Empty: none.
  std::string ca_file = {};
  /// --external-io-disable-implicit-credentials: AUTH=implicit is refused.
  bool disable_implicit_credentials = false;
  /// --external-io-disable-http: http(s) URIs and endpoints of one's own are refused.
  bool disable_http = false;
  /// Opens userfile URIs: their objects are rows in PostgreSQL, of which storage knows nothing.
  /// Null: they are refused.
  std::function<std::unique_ptr<ObjectStore>(const UserfilePlace&)> open_userfile = nullptr;
  /// By scheme, as normalize_scheme() gives it; what is absent has no limit.
  std::map<std::string, std::shared_ptr<RateLimits>, std::less<>> rate_limits = {};
};

/// One name for the schemes of one driver: "azure-blob" for "azure" and "azure-storage", "http" for
/// "https", "file-http" and "file-https". Empty for a scheme that no driver has.
std::string_view normalize_scheme(std::string_view scheme);

/// Throws kInsufficientPrivilege for an endpoint of one's own where those are disabled.
void refuse_endpoint(const StorageConfig& config, const std::string& endpoint,
                     std::string_view service);

/// The store that `uri` names, with repeats of safe failures and debug logging around the driver.
/// Throws kInvalidParameterValue for a URI that cannot be right, kFeatureNotSupported for a scheme
/// whose driver is missing. Nothing is read or written yet, but the external I/O directory must
/// exist.
/// Throws kFeatureNotSupported also for access that the driver cannot give.
std::unique_ptr<ObjectStore> open_store(std::string_view uri, const StorageConfig& config,
                                        const StoreAccess& access = {});

}  // namespace holdfast::storage
