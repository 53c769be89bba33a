#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "sql/row_sink.h"

namespace holdfast::pgwire {

/// Collects messages to send. begin() and end() enclose each one; the field functions append.
class MessageWriter {
 public:
  void begin(char type);
  /// For start-up packets, which have no type.
  void begin_untyped();
  void end();

  void u8(std::uint8_t value);
  void u16(std::uint16_t value);
  void u32(std::uint32_t value);
  void u64(std::uint64_t value);
  /// With a NUL behind it; stops at a NUL inside.
  void string(std::string_view text);
  void bytes(ByteView bytes);

  ByteView view() const { return as_bytes(buffer_); }
  bool empty() const { return buffer_.empty(); }
  std::size_t size() const { return buffer_.size(); }
  void clear() { buffer_.clear(); }

 private:
  std::string buffer_;
  std::size_t length_at_ = 0;  ///< where the open message's length stands
};

enum class Severity { Error, Fatal };

/// A message without a body (ParseComplete, NoData, Sync, …).
void write_empty(MessageWriter& out, char type);
void write_error(MessageWriter& out, Severity severity, const Error& error);
void write_notice(MessageWriter& out, const sql::Notice& notice);
void write_ready(MessageWriter& out, char transaction_status);
void write_command_complete(MessageWriter& out, std::string_view tag);
void write_parameter_status(MessageWriter& out, std::string_view name, std::string_view value);
void write_query(MessageWriter& out, std::string_view text);
/// `formats`: none for all text, one for all columns, or one each; 1 is binary.
void write_row_description(MessageWriter& out, std::span<const sql::Column> columns,
                           std::span<const std::uint16_t> formats);
void write_data_row(MessageWriter& out, std::span<const sql::Column> columns,
                    std::span<const std::uint16_t> formats, std::span<const sql::Value> values);

}  // namespace holdfast::pgwire
