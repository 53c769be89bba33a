#include "sql/skim.h"

namespace holdfast::sql {
namespace {

constexpr auto kOpen = std::string_view::npos;

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
constexpr bool is_name_part(char c) { return is_name_start(c) || is_digit(c) || c == '$'; }
constexpr char lower_case(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

}  // namespace

bool word_is(std::string_view word, std::string_view lower) {
  if (word.size() != lower.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i) {
    if (lower_case(word[i]) != lower[i]) return false;
  }
  return true;
}

std::size_t comment_end(std::string_view text, std::size_t offset) {
  if (text[offset] == '-') {
    std::size_t end = text.find_first_of("\n\r", offset);
    return end == kOpen ? text.size() : end;
  }
  int depth = 1;
  for (std::size_t i = offset + 2; i + 1 < text.size(); ++i) {
    if (text[i] == '*' && text[i + 1] == '/') {
      ++i;
      if (--depth == 0) return i + 1;
    } else if (text[i] == '/' && text[i + 1] == '*') {
      ++i;
      ++depth;
    }
  }
  return kOpen;
}

/// False when a comment is open.
bool Skimmer::skip_blanks() {
  while (position_ < text_.size()) {
    char c = text_[position_];
    if (is_blank(c)) {
      ++position_;
      continue;
    }
    char following = position_ + 1 < text_.size() ? text_[position_ + 1] : '\0';
    if ((c != '-' || following != '-') && (c != '/' || following != '*')) return true;
    std::size_t end = comment_end(text_, position_);
    if (end == kOpen) return false;
    position_ = end;
  }
  return true;
}

Piece Skimmer::take(Piece::Kind kind, std::size_t offset, std::size_t end) {
  if (end == kOpen) {
    position_ = text_.size();
    return {Piece::Kind::Broken, offset, text_.size()};
  }
  position_ = end;
  return {kind, offset, end};
}

/// `open` is the index of the opening quote; doubled quotes belong to the content.
std::size_t Skimmer::quoted_end(std::size_t open, bool escapes) const {
  char quote = text_[open];
  for (std::size_t i = open + 1; i < text_.size(); ++i) {
    if (escapes && text_[i] == '\\') {
      ++i;
    } else if (text_[i] == quote) {
      if (i + 1 >= text_.size() || text_[i + 1] != quote) return i + 1;
      ++i;
    }
  }
  return kOpen;
}

/// A string may go on in quotes on a later line. Only for E'' does it matter here: the later parts
/// have escapes too.
std::size_t Skimmer::escape_string_end(std::size_t open) const {
  std::size_t end = quoted_end(open, true);
  while (end != kOpen) {
    std::size_t i = end;
    bool new_line = false;
    while (i < text_.size()) {
      if (is_blank(text_[i])) {
        new_line = new_line || text_[i] == '\n' || text_[i] == '\r';
        ++i;
      } else if (text_.substr(i, 2) == "--") {
        i = comment_end(text_, i);
      } else {
        break;
      }
    }
    if (!new_line || i >= text_.size() || text_[i] != '\'') return end;
    end = quoted_end(i, true);
  }
  return kOpen;
}

Piece Skimmer::dollar(std::size_t offset) {
  std::size_t i = offset + 1;
  if (i < text_.size() && is_digit(text_[i])) {
    while (i < text_.size() && is_digit(text_[i])) ++i;
    return take(Piece::Kind::Parameter, offset, i);
  }
  while (i < text_.size() && text_[i] != '$' && is_name_part(text_[i])) ++i;
  if (i >= text_.size() || text_[i] != '$') {
    return take(Piece::Kind::Symbol, offset, offset + 1);
  }
  std::string_view tag = text_.substr(offset, i + 1 - offset);
  std::size_t close = text_.find(tag, i + 1);
  return take(Piece::Kind::String, offset, close == kOpen ? kOpen : close + tag.size());
}

Piece Skimmer::next() {
  if (!skip_blanks()) return take(Piece::Kind::Broken, position_, kOpen);
  std::size_t offset = position_;
  if (offset >= text_.size()) return {Piece::Kind::End, text_.size(), text_.size()};
  char c = text_[offset];
  auto at = [&](std::size_t i) { return i < text_.size() ? text_[i] : '\0'; };

  if (c == '\'') return take(Piece::Kind::String, offset, quoted_end(offset, false));
  if (c == '"') return take(Piece::Kind::QuotedName, offset, quoted_end(offset, false));
  if (c == '$') return dollar(offset);
  if (is_digit(c)) {
    std::size_t i = offset + 1;
    while (i < text_.size() && is_name_part(text_[i]) && text_[i] != '$') ++i;
    return take(Piece::Kind::Number, offset, i);
  }
  if (!is_name_start(c)) return take(Piece::Kind::Symbol, offset, offset + 1);

  char prefix = lower_case(c);
  if (at(offset + 1) == '\'') {
    if (prefix == 'e') return take(Piece::Kind::String, offset, escape_string_end(offset + 1));
    if (prefix == 'b' || prefix == 'x' || prefix == 'n') {
      return take(Piece::Kind::String, offset, quoted_end(offset + 1, false));
    }
  }
  if (prefix == 'u' && at(offset + 1) == '&') {
    char quote = at(offset + 2);
    if (quote == '\'') return take(Piece::Kind::String, offset, quoted_end(offset + 2, false));
    if (quote == '"') return take(Piece::Kind::QuotedName, offset, quoted_end(offset + 2, false));
  }
  std::size_t i = offset + 1;
  while (i < text_.size() && is_name_part(text_[i])) ++i;
  return take(Piece::Kind::Word, offset, i);
}

}  // namespace holdfast::sql
