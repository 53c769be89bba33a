#pragma once

#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "base/stop.h"
#include "manifest.pb.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// The bytes of the object `object`, with the oldest format version that it needs.
Bytes encode_manifest(const proto::Manifest& manifest, std::string_view object);
/// Undoes it; throws as read_manifest() does.
proto::Manifest decode_manifest(ByteView stored, std::string_view object);
/// A manifest or checkpoint; absent when there is no such object.
std::optional<proto::Manifest> read_sealed(storage::ObjectStore& store,
                                           const storage::ObjectKey& key, const Stop& stop);
/// For a directory that is already a finished layer.
Error has_manifest(std::string_view directory);

}  // namespace holdfast::collection
