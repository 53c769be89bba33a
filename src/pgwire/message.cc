#include "pgwire/message.h"

#include <charconv>
#include <string>
#include <string_view>

#include "pgwire/message_reader.h"

namespace holdfast::pgwire {

std::optional<std::size_t> message_size(ByteView data, std::uint32_t max_length) {
  if (data.size() < kHeaderBytes) return std::nullopt;
  const std::uint32_t length = read_be32(data.data() + 1);
  if (length < 4 || length > max_length)
    throw Error(sqlstate::kProtocolViolation, "invalid message length");
  return std::size_t{length} + 1;
}

std::optional<Message> first_message(ByteView data, std::uint32_t max_length) {
  const auto size = message_size(data, max_length);
  if (!size || data.size() < *size) return std::nullopt;
  return Message{.type = static_cast<char>(data[0]),
                 .body = data.subspan(kHeaderBytes, *size - kHeaderBytes),
                 .whole = data.first(*size)};
}

Error parse_error(ByteView body) {
  SqlState state = sqlstate::kInternalError;
  std::string message;
  std::string detail;
  std::string hint;
  int position = 0;
  MessageReader reader(body);
  while (const std::uint8_t field = reader.u8()) {
    const std::string_view text = reader.string();
    if (field == 'C') state = SqlState::from_server(text);
    if (field == 'M') message = text;
    if (field == 'D') detail = text;
    if (field == 'H') hint = text;
    if (field == 'P') std::from_chars(text.data(), text.data() + text.size(), position);
  }
  return Error(state, std::move(message))
      .detail(std::move(detail))
      .hint(std::move(hint))
      .position(position);
}

}  // namespace holdfast::pgwire
