#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace holdfast::crypto {

/// Source: RFC 4648, section 4: with padding.
std::string to_base64(ByteView bytes);
/// Section 5, without padding, as in JSON web tokens.
std::string to_base64_url(ByteView bytes);
/// Reads either alphabet, with or without padding; white space is skipped. Absent when it is none
/// of these.
std::optional<Bytes> from_base64(std::string_view text);

}  // namespace holdfast::crypto
