#pragma once

#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "base/stop.h"
#include "collection/format.h"
#include "manifest.pb.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// The bytes of the object `object`, with the oldest format version that it needs.
Bytes encode_manifest(const proto::Manifest& manifest, std::string_view object);
/// Undoes it; throws as read_manifest() does.
proto::Manifest decode_manifest(ByteView stored, std::string_view object);
/// No less than what the message `plain` will take in memory, found without building it.
std::uint64_t memory_of_manifest(ByteView plain);
/// Of this machine, in bytes.
std::uint64_t half_of_memory();
/// Throws kDataCorrupted when the manifest that was read in `directory` belongs elsewhere.
void check_place(const proto::Manifest& manifest, std::string_view directory);
/// A manifest or checkpoint; absent when there is no such object.
std::optional<proto::Manifest> read_sealed(storage::ObjectStore& store,
                                           const storage::ObjectKey& key, const Stop& stop);
/// For a directory that is already a finished layer.
Error has_manifest(std::string_view directory);

}  // namespace holdfast::collection
