#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "collection/format.h"

namespace holdfast::collection {

/// One zstd frame of `plain`.
Bytes compress_block(ByteView plain);
/// Undoes it. Absent unless `stored` unpacks to exactly `plain_bytes`, and does so with no more
/// memory than `stored` can honestly stand for.
std::optional<Bytes> decompress_block(ByteView stored, std::uint64_t plain_bytes);

/// Wraps a manifest or checkpoint of this format version; docs/formats/manifest.md has the bytes.
Bytes seal_envelope(ByteView plain, std::uint32_t version = kPlainFormatVersion);
/// Unwraps it. Throws kDataCorrupted naming `object`, or kFeatureNotSupported for a newer version.
Bytes open_envelope(ByteView stored, std::string_view object);

/// How many bytes a sealed object says that it unpacks to; 0 when it is too short to say.
std::uint64_t claimed_bytes(ByteView stored);
/// What is more than this is refused.
std::uint64_t most_plain_bytes(std::uint64_t stored_bytes);

/// Throws kFeatureNotSupported when `version` is newer than this build, kDataCorrupted when it
/// never existed.
void check_version(std::uint32_t version, std::string_view object);

}  // namespace holdfast::collection
