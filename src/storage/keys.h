#pragma once

#include <cstdint>

#include "base/error.h"
#include "storage/object_store.h"

namespace holdfast::storage {

/// Throws kInvalidParameterValue unless `key` is one (see ObjectKey).
void check_key(const ObjectKey& key);
/// The same for a prefix, which may be empty.
void check_prefix(const ObjectKey& prefix);
/// Throws kInvalidParameterValue when `bytes` is more than an object may hold.
void check_size(const ObjectKey& key, ByteView bytes);
/// For a get of bytes that the object does not have (kDataCorrupted).
Error too_short(const ObjectKey& key, std::uint64_t offset, std::uint64_t length);

}  // namespace holdfast::storage
