#include "restore/dump_list.h"

#include <algorithm>
#include <charconv>

namespace holdfast::restore {
namespace {

/// Takes the first word off, and the space behind it.
std::string_view take_word(std::string_view& rest) {
  const std::size_t end = std::min(rest.find(' '), rest.size());
  const std::string_view word = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return word;
}

std::uint32_t take_oid(std::string_view& rest) {
  const std::string_view word = take_word(rest);
  std::uint32_t oid = 0;
  std::from_chars(word.data(), word.data() + word.size(), oid);
  return oid;
}

}  // namespace

std::vector<DumpEntry> parse_dump_list(std::string_view list) {
  std::vector<DumpEntry> entries;
  while (!list.empty()) {
    const std::size_t end = std::min(list.find('\n'), list.size() - 1) + 1;
    DumpEntry entry{.line = list.substr(0, end), .what = entry.line};
    list.remove_prefix(end);
    if (entry.line.starts_with(';')) continue;
    if (entry.what.ends_with('\n')) entry.what.remove_suffix(1);
    take_word(entry.what);  // its number in the dump
    entry.catalog = take_oid(entry.what);
    entry.object = take_oid(entry.what);
    if (!entry.what.empty()) entries.push_back(entry);
  }
  return entries;
}

}  // namespace holdfast::restore
