#include "sql/split.h"

#include <cstring>

#include "sql/skim.h"

namespace holdfast::sql {
namespace {

bool has_statement(std::string_view text) {
  Piece::Kind kind = Skimmer(text).next().kind;
  return kind != Piece::Kind::End;
}

void add_trimmed(std::string_view text, std::size_t offset, std::size_t end,
                 std::vector<TextRange>& pieces) {
  while (offset < end && is_blank(text[offset])) ++offset;
  while (end > offset && is_blank(text[end - 1])) --end;
  if (has_statement(text.substr(offset, end - offset))) pieces.push_back({offset, end - offset});
}

/// The nesting inside one statement that hides a `;`. The bodies of SQL functions, BEGIN ATOMIC …
/// END, hold whole statements, and CASE … END inside them has an END of its own. Source: PostgreSQL
/// src/fe_utils/psqlscan.l (identifier rule), versions 14 to 18.
class Nesting {
 public:
  void word(std::string_view word) {
    ++words_;
    if (words_ == 1) creates_ = word_is(word, "create");
    if (words_ <= 4 && (word_is(word, "function") || word_is(word, "procedure"))) routine_ = true;
    if (!creates_ || !routine_ || parentheses_ != 0) return;
    if (word_is(word, "begin")) {
      ++blocks_;
    } else if (word_is(word, "case")) {
      if (blocks_ > 0) ++blocks_;
    } else if (word_is(word, "end") && blocks_ > 0) {
      --blocks_;
    }
  }
  void symbol(char c) {
    if (c == '(') ++parentheses_;
    if (c == ')' && parentheses_ > 0) --parentheses_;
  }
  bool open() const { return parentheses_ > 0 || blocks_ > 0; }

 private:
  int words_ = 0;
  bool creates_ = false;
  bool routine_ = false;
  int parentheses_ = 0;
  int blocks_ = 0;
};

}  // namespace

std::vector<TextRange> split(std::string_view text) {
  std::vector<TextRange> pieces;
  if (text.empty()) return pieces;
  if (std::memchr(text.data(), ';', text.size()) == nullptr) {
    add_trimmed(text, 0, text.size(), pieces);
    return pieces;
  }
  Skimmer skimmer(text);
  std::size_t start = 0;
  Nesting nesting;
  for (;;) {
    Piece piece = skimmer.next();
    if (piece.kind == Piece::Kind::Broken) return {{0, text.size()}};
    if (piece.kind == Piece::Kind::End) break;
    if (piece.kind == Piece::Kind::Word) {
      nesting.word(piece.of(text));
    } else if (piece.kind == Piece::Kind::Symbol) {
      if (text[piece.offset] == ';' && !nesting.open()) {
        add_trimmed(text, start, piece.offset, pieces);
        start = piece.end;
        nesting = Nesting();
      } else {
        nesting.symbol(text[piece.offset]);
      }
    }
  }
  if (nesting.open()) return {{0, text.size()}};
  add_trimmed(text, start, text.size(), pieces);
  return pieces;
}

}  // namespace holdfast::sql
