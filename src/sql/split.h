#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace holdfast::sql {

/// A piece of a text, in bytes.
struct TextRange {
  std::size_t offset = 0;
  std::size_t length = 0;

  std::string_view of(std::string_view text) const { return text.substr(offset, length); }
  friend bool operator==(const TextRange&, const TextRange&) = default;
};

/// Cuts the text of a Query message into its statements, at each `;` outside strings, comments,
/// parentheses and BEGIN ATOMIC bodies. The pieces leave out the `;` and the white space around
/// them; pieces with nothing but comments are dropped. Text that breaks the lexical rules (an open
/// string, comment or parenthesis) is one piece. No copy is made, and text without a `;` is
/// answered after one memchr.
std::vector<TextRange> split(std::string_view text);

}  // namespace holdfast::sql
