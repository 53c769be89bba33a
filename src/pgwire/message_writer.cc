#include "pgwire/message_writer.h"

#include <array>
#include <cstring>

#include "pgwire/protocol.h"
#include "pgwire/values.h"

namespace holdfast::pgwire {

namespace {

template <typename T>
void append_be(std::string& buffer, T value) {
  for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8)
    buffer.push_back(static_cast<char>((value >> shift) & 0xff));
}

/// One field of an ErrorResponse or NoticeResponse.
void write_field(MessageWriter& out, char code, std::string_view text) {
  if (text.empty()) return;
  out.u8(static_cast<std::uint8_t>(code));
  out.string(text);
}

}  // namespace

void MessageWriter::begin(char type) {
  buffer_.push_back(type);
  begin_untyped();
}

void MessageWriter::begin_untyped() {
  length_at_ = buffer_.size();
  buffer_.append(4, '\0');
}

void MessageWriter::end() {
  const std::uint32_t length =
      __builtin_bswap32(static_cast<std::uint32_t>(buffer_.size() - length_at_));
  std::memcpy(buffer_.data() + length_at_, &length, sizeof length);
}

void MessageWriter::u8(std::uint8_t value) { buffer_.push_back(static_cast<char>(value)); }
void MessageWriter::u16(std::uint16_t value) { append_be(buffer_, value); }
void MessageWriter::u32(std::uint32_t value) { append_be(buffer_, value); }
void MessageWriter::u64(std::uint64_t value) { append_be(buffer_, value); }

void MessageWriter::string(std::string_view text) {
  buffer_.append(text.substr(0, text.find('\0')));
  buffer_.push_back('\0');
}

void MessageWriter::bytes(ByteView bytes) { buffer_.append(as_text(bytes)); }

void write_empty(MessageWriter& out, char type) {
  out.begin(type);
  out.end();
}

void write_error(MessageWriter& out, Severity severity, const Error& error) {
  const std::string_view name = severity == Severity::Fatal ? "FATAL" : "ERROR";
  out.begin(backend::kErrorResponse);
  write_field(out, 'S', name);
  write_field(out, 'V', name);
  write_field(out, 'C', error.state().view());
  write_field(out, 'M', error.message().empty() ? "unknown error" : error.message());
  write_field(out, 'D', error.detail());
  write_field(out, 'H', error.hint());
  if (error.position() > 0) write_field(out, 'P', std::to_string(error.position()));
  out.u8(0);
  out.end();
}

void write_notice(MessageWriter& out, const sql::Notice& notice) {
  out.begin(backend::kNoticeResponse);
  write_field(out, 'S', notice.severity);
  write_field(out, 'V', notice.severity);
  write_field(out, 'C', notice.state.view());
  write_field(out, 'M', notice.message);
  write_field(out, 'D', notice.detail);
  write_field(out, 'H', notice.hint);
  out.u8(0);
  out.end();
}

void write_ready(MessageWriter& out, char transaction_status) {
  out.begin(backend::kReadyForQuery);
  out.u8(static_cast<std::uint8_t>(transaction_status));
  out.end();
}

void write_command_complete(MessageWriter& out, std::string_view tag) {
  out.begin(backend::kCommandComplete);
  out.string(tag);
  out.end();
}

void write_parameter_status(MessageWriter& out, std::string_view name, std::string_view value) {
  out.begin(backend::kParameterStatus);
  out.string(name);
  out.string(value);
  out.end();
}

void write_query(MessageWriter& out, std::string_view text) {
  out.begin(frontend::kQuery);
  out.string(text);
  out.end();
}

void write_row_description(MessageWriter& out, std::span<const sql::Column> columns,
                           std::span<const std::uint16_t> formats) {
  out.begin(backend::kRowDescription);
  out.u16(static_cast<std::uint16_t>(columns.size()));
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const TypeInfo type = type_info(columns[i].type);
    out.string(columns[i].name);
    out.u32(0);  // of no table
    out.u16(0);
    out.u32(type.oid);
    out.u16(static_cast<std::uint16_t>(type.size));
    out.u32(0xffff'ffff);  // no type modifier
    out.u16(format_of(formats, i));
  }
  out.end();
}

void write_data_row(MessageWriter& out, std::span<const sql::Column> columns,
                    std::span<const std::uint16_t> formats, std::span<const sql::Value> values) {
  out.begin(backend::kDataRow);
  out.u16(static_cast<std::uint16_t>(values.size()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!values[i]) {
      out.u32(0xffff'ffff);  // NULL
    } else if (format_of(formats, i) == kTextFormat) {
      out.u32(static_cast<std::uint32_t>(values[i]->size()));
      out.bytes(as_bytes(*values[i]));
    } else {
      const std::string binary = to_binary(columns[i].type, *values[i]);
      out.u32(static_cast<std::uint32_t>(binary.size()));
      out.bytes(as_bytes(binary));
    }
  }
  out.end();
}

}  // namespace holdfast::pgwire
