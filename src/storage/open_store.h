#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "io/file_system.h"
#include "storage/object_store.h"

namespace holdfast::storage {

/// What the drivers need to know of the daemon they run in.
struct StorageConfig {
  /// --external-io-dir: what nodelocal URIs name files in. Empty: nodelocal is turned off.
  std::string external_io_dir;
  /// The id of this node, as in nodelocal://<id>/…
  std::string node_id = "1";
  /// Tests replace it; null is the kernel's.
  io::FileSystem* files = nullptr;
};

/// The store that `uri` names, with repeats of safe failures and debug logging around the driver.
/// Throws kInvalidParameterValue for a URI that cannot be right, kFeatureNotSupported for a scheme
/// whose driver is missing. Nothing is read or written yet, but the external I/O directory must
/// exist.
std::unique_ptr<ObjectStore> open_store(std::string_view uri, const StorageConfig& config);

}  // namespace holdfast::storage
