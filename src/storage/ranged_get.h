#pragma once

#include <cstdint>
#include <string>

#include "net/http.h"
#include "storage/object_store.h"

namespace holdfast::storage {

/// "bytes=3-6".
std::string range_header(std::uint64_t offset, std::uint64_t length);

/// Makes sure that a 200 or 206 answer has brought the bytes that were asked for. Throws
/// kDataCorrupted when the object ends before, and kIoError with Retry::Safe when the answer is
/// some other part or was cut off.
void check_range(const net::HttpResponse& response, const ObjectKey& key, std::uint64_t offset,
                 std::uint64_t length);

/// Content-Length of an answer to HEAD; throws kIoError when it has none.
std::uint64_t content_length(const net::HttpResponse& response, const ObjectKey& key);

}  // namespace holdfast::storage
