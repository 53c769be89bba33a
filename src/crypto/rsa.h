#pragma once

#include <string_view>

#include "base/bytes.h"

namespace holdfast::crypto {

/// The RSASSA-PKCS1-v1_5 signature over the SHA-256 of `message` ("RS256" of RFC 7518). Throws
/// kInvalidParameterValue when `private_key_pem` is no RSA private key; no part of it is in the
/// message.
Bytes sign_rs256(std::string_view private_key_pem, ByteView message);

}  // namespace holdfast::crypto
