#pragma once

#include <cstddef>
#include <string>

#include "base/stop.h"
#include "manifest.pb.h"
#include "restore/layout.h"
#include "storage/object_store.h"

namespace holdfast::restore {

// What is checked before a restore writes anything. All throw Error.

/// The manifest of a full backup of a cluster. kUndefinedFile when there is none.
collection::proto::Manifest read_cluster_manifest(storage::ObjectStore& store,
                                                  const std::string& subdirectory,
                                                  const Stop& stop);

/// `binaries_major`: of the server that will run on it; 0: unknown, nothing is checked.
void check_version(const collection::proto::Manifest& manifest, int binaries_major);

/// That all packs and WAL segments are there, packs in the recorded size.
void check_objects(storage::ObjectStore& store, const collection::proto::Manifest& manifest,
                   std::size_t workers, const Stop& stop);

/// That every file system concerned has room for what is not there yet.
void check_space(const Layout& layout, const collection::proto::Manifest& manifest);

/// For a restore into a data directory that a server is to be started in: that configuration files
/// which belong outside of it are on this host.
void check_external_config(const collection::proto::Manifest& manifest);

}  // namespace holdfast::restore
