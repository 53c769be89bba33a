#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "collection/frame.h"

namespace holdfast::collection {

/// XXH3-128 of the two, one after the other.
Hash128 hash128(ByteView first, ByteView second);
/// XXH3-64.
std::uint64_t hash64(ByteView bytes);

}  // namespace holdfast::collection
