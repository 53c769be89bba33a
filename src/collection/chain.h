#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/stop.h"
#include "manifest.pb.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// "incrementals/2026/11/20-223000.00": where the incremental layers of a full are.
std::string incrementals_of(std::string_view full);
/// "incrementals/2026/11/20-223000.00/20261120/231500.00", in UTC with centiseconds.
std::string incremental_directory(std::string_view full, Time time);

struct IncrementalName {
  std::string full;  ///< subdirectory of the full
  Time time;
};
/// Absent for anything that incremental_directory() does not print.
std::optional<IncrementalName> parse_incremental_directory(std::string_view text);
/// Whether a layer, full or incremental, may be in this directory.
bool is_layer_directory(std::string_view text);

/// The directories of the finished layers of a full, the full first, then its incrementals, oldest
/// first. Found by the names of objects alone. Empty when there is no such full.
std::vector<std::string> list_layers(storage::ObjectStore& store, std::string_view full,
                                     const Stop& stop);
/// The fulls that have incremental layers, finished or not: their directories below incrementals/.
std::vector<std::string> list_fulls_with_incrementals(storage::ObjectStore& store,
                                                      const Stop& stop);

/// What is kept in memory of the layers below the one that is asked for. Hundreds of layers list
/// the same files again and again, which makes most of a manifest.
enum class LowerLayers {
  Whole,
  WithoutLists,  ///< without files, directories, objects and WAL
};
/// The layers that `directory` (a full or an incremental) consists of: from the full to the layer
/// itself, each continuing the one before. Throws kUndefinedFile when one is missing,
/// kDataCorrupted when one is not what the next one says.
std::vector<proto::Manifest> read_chain(storage::ObjectStore& store, std::string_view directory,
                                        const Stop& stop, LowerLayers lower = LowerLayers::Whole);
/// The chains that end in a layer which no other continues, each from `full` on: a chain may have
/// been continued twice from one layer. Throws kDataCorrupted for what read_chain() would refuse.
std::vector<std::vector<proto::Manifest>> branches(std::string_view full,
                                                   const std::vector<proto::Manifest>& layers);
/// Whether `one` is a later state than `other` of the same cluster: by WAL, because a clock may be
/// set back; by end time where they are on different timelines. False for different clusters.
bool ends_later(const proto::Manifest& one, const proto::Manifest& other);
/// The layer that is the latest state. Not always the last by name: an interrupted backup that is
/// resumed ends after layers that began later. `layers` has one at least.
const proto::Manifest& latest_layer(const std::vector<proto::Manifest>& layers);
/// The manifests of `directories`, in this order; several are read at once. Throws what
/// read_manifest() throws, kUndefinedFile when one is missing, and kOutOfMemory when what is kept
/// of them takes more than `most_memory` bytes together; 0: half of the machine's memory. `keep`,
/// of the manifest with a number in `directories`, may drop what the caller does not need; it is
/// called by several threads.
std::vector<proto::Manifest> read_manifests(
    storage::ObjectStore& store, const std::vector<std::string>& directories, const Stop& stop,
    std::uint64_t most_memory = 0,
    const std::function<void(std::size_t number, proto::Manifest&)>& keep = {});

/// The lowest file id that the chain up to this layer never used.
std::uint32_t next_file_id(const proto::Manifest& manifest);

}  // namespace holdfast::collection
