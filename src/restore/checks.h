#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/stop.h"
#include "manifest.pb.h"
#include "restore/layout.h"
#include "storage/object_store.h"

namespace holdfast::restore {

// What is checked before a restore writes anything. All throw Error.

/// The manifests that restoring (from) a layer needs, the full first, the layer
/// itself last (collection::read_chain); the others keep only what a restore needs of them.
/// kUndefinedFile when one is not there.
std::vector<collection::proto::Manifest> read_restorable_chain(storage::ObjectStore& store,
                                                               const std::string& directory,
                                                               const Stop& stop);
/// The same for the restore of a whole cluster. Throws kInvalidParameterValue for backups of
/// databases or tables.
std::vector<collection::proto::Manifest> read_cluster_chain(storage::ObjectStore& store,
                                                            const std::string& directory,
                                                            const Stop& stop);

/// `binaries_major`: of the server that will run on it; 0: unknown, nothing is checked.
void check_version(const collection::proto::Manifest& manifest, int binaries_major);

/// Whether WAL behind the layer was added to it (add_wal_up_to()): the archive may have only the
/// beginning of the last segment then.
enum class WalBehind { No, Yes };

/// That all packs of a chain are there in the recorded size, and the WAL of its last layer.
void check_objects(storage::ObjectStore& store, std::span<const collection::proto::Manifest> chain,
                   WalBehind behind, std::size_t workers, const Stop& stop);

/// That every file system concerned has room for what is not there yet.
void check_space(const Layout& layout, const collection::proto::Manifest& manifest);

/// For a restore into a data directory that a server is to be started in: that configuration files
/// which belong outside of it are on this host.
void check_external_config(const collection::proto::Manifest& manifest);

}  // namespace holdfast::restore
