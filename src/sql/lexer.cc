#include "sql/lexer.h"

#include <fmt/format.h>
#include <pg_query.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/error.h"
#include "sql/skim.h"
#include "sql/string_literal.h"

namespace holdfast::sql {
namespace {

// Token and keyword numbers of pg_query_scan's result.
// Source: libpg_query 15-4.0.0, protobuf/pg_query.proto (Token, KeywordKind). Its C header needs
// protobuf-c, which Debian does not ship with it; the message is small enough to read by hand.
constexpr std::uint64_t kIdent = 258;
constexpr std::uint64_t kUnicodeIdent = 259;
constexpr std::uint64_t kFloat = 260;
constexpr std::uint64_t kString = 261;
constexpr std::uint64_t kUnicodeString = 262;
constexpr std::uint64_t kInteger = 266;
constexpr std::uint64_t kParameter = 267;
constexpr std::uint64_t kLineComment = 275;
constexpr std::uint64_t kBlockComment = 276;
constexpr std::uint64_t kFirstKeyword = 277;
constexpr std::uint64_t kTypeFunctionKeyword = 3;

struct RawToken {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t token = 0;
  std::uint64_t keyword = 0;
};

/// Reads the ScanResult message: version (1), tokens (2) of start (1), end (2), token (4), keyword
/// kind (5), all of them varints. The library made it in this process, so it is well formed.
class ScanReader {
 public:
  explicit ScanReader(const PgQueryProtobuf& message)
      : data_(reinterpret_cast<const unsigned char*>(message.data)), size_(message.len) {}

  std::optional<RawToken> next() {
    while (position_ < size_) {
      std::uint64_t tag = varint();
      std::uint64_t value = varint();
      if (tag != (2u << 3 | 2u)) continue;
      std::size_t end = position_ + value;
      RawToken token;
      while (position_ < end) field(token);
      return token;
    }
    return std::nullopt;
  }

 private:
  void field(RawToken& token) {
    std::uint64_t tag = varint();
    std::uint64_t value = varint();
    switch (tag >> 3) {
      case 1:
        token.start = value;
        break;
      case 2:
        token.end = value;
        break;
      case 4:
        token.token = value;
        break;
      case 5:
        token.keyword = value;
        break;
      default:
        break;
    }
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; position_ < size_; shift += 7) {
      unsigned char byte = data_[position_++];
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) break;
    }
    return value;
  }

  const unsigned char* data_;
  std::size_t size_;
  std::size_t position_ = 0;
};

struct ScanDeleter {
  void operator()(PgQueryScanResult* result) const {
    pg_query_free_scan_result(*result);
    delete result;
  }
};
using Scan = std::unique_ptr<PgQueryScanResult, ScanDeleter>;

Scan scan(const std::string& text) {
  return Scan(new PgQueryScanResult(pg_query_scan(text.c_str())));
}

/// The scanner's messages end in the text that they stumbled on, which may be part of a passphrase.
std::string without_excerpt(std::string_view message) {
  return std::string(message.substr(0, message.find(" at or near ")));
}

std::string fold(std::string_view word) {
  std::string folded(word);
  for (char& c : folded) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return folded;
}

/// A string that goes on in quotes on a later line is one literal. The scanner knows, unless a
/// comment stands between: it then reports two.
bool continues(std::string_view between) {
  return between.find_first_of("\n\r") != std::string_view::npos &&
         between.find("/*") == std::string_view::npos;
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    Scan result = scan(text_);
    if (result->error != nullptr) {
      throw Error(sqlstate::kSyntaxError, without_excerpt(result->error->message))
          // Characters that are invalid in the encoding are reported without a place.
          .position(std::max(result->error->cursorpos, 1));
    }
    ScanReader reader(result->pbuf);
    while (std::optional<RawToken> raw = reader.next()) add(*raw);
    Token end;
    end.offset = end.end = text_.size();
    tokens_.push_back(std::move(end));
    return std::move(tokens_);
  }

 private:
  void add(const RawToken& raw) {
    if (raw.token == kLineComment || raw.token == kBlockComment) return;
    Token token;
    token.offset = raw.start;
    token.end = raw.end;
    // The scanner does not tell where U&'' and U&"" end.
    if (raw.token == kUnicodeString || raw.token == kUnicodeIdent) {
      token.end = Skimmer(text_, raw.start).next().end;
    }
    std::string_view spelling =
        std::string_view(text_).substr(token.offset, token.end - token.offset);
    if (raw.token == kIdent && spelling.front() == '"') {
      token.kind = Token::Kind::Name;
      token.text = undouble(spelling, '"');
    } else if (raw.token == kIdent || raw.token >= kFirstKeyword) {
      token.kind = Token::Kind::Word;
      token.text = fold(spelling);
      token.reserved = raw.keyword >= kTypeFunctionKeyword;
      if (token.text == "uescape" && unicode_escape_) return;
    } else if (raw.token == kUnicodeString || raw.token == kUnicodeIdent) {
      add_unicode(token, spelling);
      return;
    } else if (raw.token == kString) {
      if (add_to_previous(token, spelling)) return;
      token.kind = Token::Kind::String;
      token.text = decode_string(spelling);
    } else if (raw.token == kInteger || raw.token == kFloat) {
      token.kind = Token::Kind::Number;
      token.text = spelling;
    } else if (raw.token == kParameter) {
      token.kind = Token::Kind::Parameter;
      token.text = spelling.substr(1);
    } else {
      token.kind = Token::Kind::Symbol;
      token.text = spelling;
    }
    unicode_escape_ = false;
    tokens_.push_back(std::move(token));
  }

  /// U&'…' may be followed by UESCAPE 'c', which the scanner reports as two tokens more; whether
  /// they are there must be known to decode it.
  void add_unicode(Token& token, std::string_view spelling) {
    bool name = spelling[2] == '"';
    token.kind = name ? Token::Kind::Name : Token::Kind::String;
    char escape = '\\';
    Skimmer after(text_, token.end);
    Piece word = after.next();
    unicode_escape_ = word.kind == Piece::Kind::Word && word_is(word.of(text_), "uescape");
    if (unicode_escape_) {
      Piece literal = after.next();
      std::string value;
      if (literal.kind == Piece::Kind::String) value = decode_string(literal.of(text_));
      if (value.size() != 1 || !valid_unicode_escape(value.front())) {
        throw Error(sqlstate::kSyntaxError, "invalid Unicode escape character")
            .position(character_position(text_, literal.offset));
      }
      escape = value.front();
      escape_literal_ = literal.offset;
      token.end = literal.end;
    }
    std::optional<std::string> decoded =
        decode_unicode(undouble(spelling.substr(2), name ? '"' : '\''), escape);
    if (!decoded) {
      throw Error(sqlstate::kSyntaxError, "invalid Unicode escape")
          .position(character_position(text_, token.offset));
    }
    token.text = std::move(*decoded);
    tokens_.push_back(std::move(token));
  }

  /// True when the string belongs to the token before it.
  bool add_to_previous(const Token& token, std::string_view spelling) {
    if (escape_literal_ == token.offset) {
      unicode_escape_ = false;
      return true;
    }
    take_national_prefix(token);
    if (tokens_.empty() || tokens_.back().kind != Token::Kind::String || spelling.front() != '\'') {
      return false;
    }
    Token& previous = tokens_.back();
    std::string_view text = text_;
    if (text[previous.end - 1] != '\'' ||
        !continues(text.substr(previous.end, token.offset - previous.end))) {
      return false;
    }
    bool escapes = text[previous.offset] == 'e' || text[previous.offset] == 'E';
    previous.text += escapes ? decode_string("E" + std::string(spelling)) : decode_string(spelling);
    previous.end = token.end;
    return true;
  }

  /// N'…' is reported as the keyword NCHAR over the letter, and the string.
  void take_national_prefix(const Token& token) {
    if (!tokens_.empty() && tokens_.back().word("n") && tokens_.back().end == token.offset) {
      tokens_.pop_back();
    }
  }

  std::string text_;  // with the NUL at its end that the scanner needs
  std::vector<Token> tokens_;
  bool unicode_escape_ = false;
  std::optional<std::size_t> escape_literal_;
};

}  // namespace

std::vector<Token> lex(std::string_view text) {
  if (std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw Error(sqlstate::kSyntaxError, "the statement holds a zero byte")
        .position(character_position(text, nul));
  }
  return Lexer(text).run();
}

bool is_reserved(std::string_view word) {
  std::string text(word);
  Scan result = scan(text);
  if (result->error != nullptr) return true;
  std::optional<RawToken> token = ScanReader(result->pbuf).next();
  return !token || token->keyword >= kTypeFunctionKeyword;
}

int character_position(std::string_view text, std::size_t offset) {
  offset = std::min(offset, text.size());
  auto begins_character = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; };
  return 1 + static_cast<int>(std::count_if(text.begin(), text.begin() + offset, begins_character));
}

std::string quote_literal(std::string_view text) {
  bool escapes = text.find('\\') != std::string_view::npos;
  std::string literal = escapes ? "E'" : "'";
  for (char c : text) {
    if (c == '\'' || c == '\\') literal += c;
    literal += c;
  }
  return literal + '\'';
}

std::string quote_identifier(std::string_view name) {
  auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
  if (!name.empty() && (name.front() < '0' || name.front() > '9') &&
      std::all_of(name.begin(), name.end(), plain) && !is_reserved(name)) {
    return std::string(name);
  }
  std::string quoted = "\"";
  for (char c : name) {
    if (c == '"') quoted += c;
    quoted += c;
  }
  return quoted + '"';
}

}  // namespace holdfast::sql
