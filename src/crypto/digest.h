#pragma once

#include <array>
#include <string>

#include "base/bytes.h"

namespace holdfast::crypto {

using Sha256 = std::array<std::byte, 32>;
using Md5 = std::array<std::byte, 16>;

Sha256 sha256(ByteView bytes);
Sha256 hmac_sha256(ByteView key, ByteView message);
/// For storage protocols that want it as a checksum. It protects against accidents only.
Md5 md5(ByteView bytes);

}  // namespace holdfast::crypto
