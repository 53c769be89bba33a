#include "pgwire/message_reader.h"

#include "base/error.h"
#include "pgwire/protocol.h"

namespace holdfast::pgwire {

ByteView MessageReader::bytes(std::size_t count) {
  if (count > rest_.size())
    throw Error(sqlstate::kProtocolViolation, "insufficient data left in message");
  const ByteView taken = rest_.first(count);
  rest_ = rest_.subspan(count);
  return taken;
}

std::uint8_t MessageReader::u8() { return std::to_integer<std::uint8_t>(bytes(1)[0]); }
std::uint16_t MessageReader::u16() { return read_be16(bytes(2).data()); }
std::uint32_t MessageReader::u32() { return read_be32(bytes(4).data()); }

std::string_view MessageReader::string() {
  const std::string_view text = as_text(rest_);
  const std::size_t end = text.find('\0');
  if (end == std::string_view::npos)
    throw Error(sqlstate::kProtocolViolation, "invalid string in message");
  rest_ = rest_.subspan(end + 1);
  return text.substr(0, end);
}

void MessageReader::expect_end() const {
  if (!rest_.empty()) throw Error(sqlstate::kProtocolViolation, "invalid message format");
}

}  // namespace holdfast::pgwire
