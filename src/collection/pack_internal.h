#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "collection/pack.h"

namespace holdfast::collection {

/// Checks the first kPackHeaderBytes of a pack. Throws kDataCorrupted naming `object`.
void check_pack_header(ByteView header, std::uint32_t number, const BackupUuid& uuid,
                       std::string_view object);

/// The index of a pack that is in memory whole. Throws kDataCorrupted naming `object`.
OpenedPack parse_pack(ByteView pack, std::string_view object);

}  // namespace holdfast::collection
