#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "base/bytes.h"
#include "base/stop.h"
#include "collection/pack.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// Ties a WAL object to its place, as a layer's uuid ties its packs.
BackupUuid wal_object_uuid(const storage::ObjectKey& key);

/// Puts what `builder` holds; one that is there already must have the same content (kDuplicateFile
/// otherwise). Returns the bytes of the object that is there then.
std::uint64_t put_wal_object(storage::ObjectStore& store, const storage::ObjectKey& key,
                             PackBuilder& builder, const Stop& stop);

/// Reads an object of at most `limit` plain bytes that put_wal_object() wrote, verifying all of it,
/// and hands its frames to `write`. Returns its plain bytes; absent when there is no such object.
std::optional<std::uint64_t> get_wal_object(storage::ObjectStore& store,
                                            const storage::ObjectKey& key, std::uint64_t limit,
                                            const std::function<void(ByteView)>& write,
                                            const Stop& stop);

/// The same into memory: fills `into` from its start, of which the object must not have more.
/// `object` as the memory of storage::get_whole().
std::optional<std::uint64_t> get_wal_object(storage::ObjectStore& store,
                                            const storage::ObjectKey& key, MutableByteView into,
                                            Bytes& object, const Stop& stop);

}  // namespace holdfast::collection
