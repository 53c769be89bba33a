#include "sql/string_literal.h"

#include <cstdint>

#include "sql/skim.h"

namespace holdfast::sql {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_utf8(std::string& out, std::uint32_t code) {
  auto byte = [&](std::uint32_t value) { out += static_cast<char>(value); };
  if (code < 0x80) {
    byte(code);
  } else if (code < 0x800) {
    byte(0xc0 | code >> 6);
    byte(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    byte(0xe0 | code >> 12);
    byte(0x80 | (code >> 6 & 0x3f));
    byte(0x80 | (code & 0x3f));
  } else {
    byte(0xf0 | code >> 18);
    byte(0x80 | (code >> 12 & 0x3f));
    byte(0x80 | (code >> 6 & 0x3f));
    byte(0x80 | (code & 0x3f));
  }
}

/// Joins the two halves of a surrogate pair; everything else is appended at once.
class Utf16Joiner {
 public:
  explicit Utf16Joiner(std::string& out) : out_(out) {}

  bool add(std::uint32_t code) {
    bool second = code >= 0xdc00 && code <= 0xdfff;
    if (second != (first_ != 0)) return false;
    if (second) {
      append_utf8(out_, 0x10000 + ((first_ - 0xd800) << 10) + (code - 0xdc00));
      first_ = 0;
    } else if (code >= 0xd800 && code <= 0xdbff) {
      first_ = code;
    } else if (code == 0 || code > 0x10ffff) {
      return false;
    } else {
      append_utf8(out_, code);
    }
    return true;
  }
  bool pending() const { return first_ != 0; }

 private:
  std::string& out_;
  std::uint32_t first_ = 0;
};

/// Reads up to `digits` hexadecimal digits at `position`, and moves it.
std::uint32_t read_hex(std::string_view text, std::size_t& position, int digits) {
  std::uint32_t value = 0;
  for (; digits > 0 && position < text.size() && hex_digit(text[position]) >= 0; --digits) {
    value = value << 4 | static_cast<std::uint32_t>(hex_digit(text[position++]));
  }
  return value;
}

std::uint32_t read_octal(std::string_view text, std::size_t& position) {
  std::uint32_t value = 0;
  for (int digits = 3;
       digits > 0 && position < text.size() && text[position] >= '0' && text[position] <= '7';
       --digits) {
    value = value << 3 | static_cast<std::uint32_t>(text[position++] - '0');
  }
  return value;
}

char control_character(char c) {
  switch (c) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'v':
      return '\v';
    default:
      return c;
  }
}

/// Index of the quote that opens the next part on a later line, or npos.
std::size_t next_part(std::string_view literal, std::size_t after_quote) {
  Piece piece = Skimmer(literal, after_quote).next();
  return piece.kind == Piece::Kind::String ? piece.offset : std::string_view::npos;
}

std::string decode_escapes(std::string_view literal) {
  std::string out;
  Utf16Joiner unicode(out);
  for (std::size_t i = 2; i < literal.size();) {
    char c = literal[i++];
    if (c == '\'') {
      if (i < literal.size() && literal[i] == '\'') {
        out += literal[i++];
        continue;
      }
      std::size_t part = next_part(literal, i);
      if (part == std::string_view::npos) break;
      i = part + 1;
    } else if (c != '\\' || i >= literal.size()) {
      out += c;
    } else if (char kind = literal[i]; kind >= '0' && kind <= '7') {
      out += static_cast<char>(read_octal(literal, i));
    } else if (kind == 'x' && i + 1 < literal.size() && hex_digit(literal[i + 1]) >= 0) {
      ++i;
      out += static_cast<char>(read_hex(literal, i, 2));
    } else if (kind == 'u' || kind == 'U') {
      ++i;
      unicode.add(read_hex(literal, i, kind == 'u' ? 4 : 8));
    } else {
      out += control_character(kind);
      ++i;
    }
  }
  return out;
}

}  // namespace

std::string undouble(std::string_view quoted, char quote) {
  std::string out;
  for (std::size_t i = 1; i < quoted.size(); ++i) {
    if (quoted[i] == quote) {
      if (i + 1 < quoted.size() && quoted[i + 1] == quote) {
        ++i;
      } else {
        std::size_t part = next_part(quoted, i + 1);
        if (part == std::string_view::npos) break;
        i = part;
        continue;
      }
    }
    out += quoted[i];
  }
  return out;
}

std::string decode_string(std::string_view literal) {
  switch (literal.front()) {
    case '$': {
      std::size_t tag = literal.find('$', 1) + 1;
      return std::string(literal.substr(tag, literal.size() - 2 * tag));
    }
    case 'e':
    case 'E':
      return decode_escapes(literal);
    case '\'':
      return undouble(literal, '\'');
    case 'u':
    case 'U':
      return undouble(literal.substr(2), '\'');
    default:
      return undouble(literal.substr(1), '\'');
  }
}

std::optional<std::string> decode_unicode(std::string_view content, char escape) {
  std::string out;
  Utf16Joiner unicode(out);
  for (std::size_t i = 0; i < content.size();) {
    char c = content[i++];
    if (c != escape || (i < content.size() && content[i] == escape)) {
      if (unicode.pending()) return std::nullopt;
      if (c == escape) ++i;
      out += c;
      continue;
    }
    int digits = 4;
    if (i < content.size() && content[i] == '+') {
      digits = 6;
      ++i;
    }
    std::size_t start = i;
    std::uint32_t code = read_hex(content, i, digits);
    if (i - start != static_cast<std::size_t>(digits) || !unicode.add(code)) return std::nullopt;
  }
  if (unicode.pending()) return std::nullopt;
  return out;
}

bool valid_unicode_escape(char c) {
  return hex_digit(c) < 0 && c != '+' && c != '\'' && c != '"' && !is_blank(c);
}

}  // namespace holdfast::sql
