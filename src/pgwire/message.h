#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "pgwire/protocol.h"
#include "pgwire/read_buffer.h"

namespace holdfast::pgwire {

/// A whole message inside a buffer.
struct Message {
  char type = 0;
  ByteView body;
  ByteView whole;  ///< with type and length
};

/// Size of the message that starts `data`, with type and length; absent while its header is
/// incomplete. Throws Error with kProtocolViolation when the length is below 4 or above
/// `max_length`.
std::optional<std::size_t> message_size(ByteView data, std::uint32_t max_length);

/// The message at the start of `data`; absent until all of it is there.
std::optional<Message> first_message(ByteView data, std::uint32_t max_length);

/// Reads the body of an ErrorResponse.
Error parse_error(ByteView body);

}  // namespace holdfast::pgwire
