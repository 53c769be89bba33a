#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace holdfast::sql {

/// The content of a string literal, given as it is spelled: '…', E'…', N'…' or $tag$…$tag$, also
/// one that goes on in quotes on later lines, and U&'…' with its escapes left in. It must end where
/// Skimmer says.
/// Source: PostgreSQL src/backend/parser/scan.l, version 15.
std::string decode_string(std::string_view literal);

/// The content of a quoted text: without the quotes, doubled ones made single, parts on later lines
/// joined.
std::string undouble(std::string_view quoted, char quote);

/// Replaces the \XXXX and \+XXXXXX of U&'' and U&"", with this escape character; absent when one of
/// them is malformed or no character.
std::optional<std::string> decode_unicode(std::string_view content, char escape);

/// Whether UESCAPE takes this character.
bool valid_unicode_escape(char c);

}  // namespace holdfast::sql
