#pragma once

#include <string>
#include <string_view>

namespace holdfast::storage {

/// %XX for everything but letters, digits and "-._~" (RFC 3986, section 2.3), which is what the
/// signatures of S3 and Azure are made over.
std::string percent_encode(std::string_view text);
/// The same, but "/" stays.
std::string percent_encode_path(std::string_view path);

}  // namespace holdfast::storage
