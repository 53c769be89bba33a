#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace holdfast::pgwire {

/// Reads the fields of one message's body in order. Every read throws Error with
/// kProtocolViolation when the body is too short.
class MessageReader {
 public:
  explicit MessageReader(ByteView body) : rest_(body) {}

  std::uint8_t u8();
  std::uint16_t u16();
  std::uint32_t u32();
  /// Up to the next NUL, which is taken too.
  std::string_view string();
  ByteView bytes(std::size_t count);
  ByteView rest() const { return rest_; }
  bool at_end() const { return rest_.empty(); }
  /// Throws unless the body ends here.
  void expect_end() const;

 private:
  ByteView rest_;
};

}  // namespace holdfast::pgwire
