#include "restore/mounts.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "base/error.h"

namespace holdfast::restore {
namespace {

constexpr std::string_view kMountInfo = "/proc/self/mountinfo";
/// The number of the field that is the mount point, from 0.
constexpr int kMountPointField = 4;

std::string_view field_of(std::string_view line, int number) {
  for (; number > 0; --number) {
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos) return {};
    line.remove_prefix(space + 1);
  }
  return line.substr(0, line.find(' '));
}

/// Blanks and backslashes are three octal digits behind a backslash.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 3 >= text.size()) {
      plain += text[i];
      continue;
    }
    int value = 0;
    for (const char digit : text.substr(i + 1, 3)) value = value * 8 + (digit - '0');
    plain += static_cast<char>(value);
    i += 3;
  }
  return plain;
}

}  // namespace

std::vector<std::string> mounts_below(std::string_view directory, std::string_view mounts) {
  const std::string above = std::string(directory) + "/";
  std::vector<std::string> found;
  while (!mounts.empty()) {
    const std::string_view line = mounts.substr(0, mounts.find('\n'));
    mounts.remove_prefix(std::min(mounts.size(), line.size() + 1));
    std::string point = unescaped(field_of(line, kMountPointField));
    if (point.starts_with(above)) found.push_back(std::move(point));
  }
  return found;
}

void require_no_mounts_below(const std::string& directory) {
  std::ifstream file{std::string(kMountInfo)};
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto found = mounts_below(directory, text);
  if (found.empty()) return;
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("cannot replace data directory \"{}\": \"{}\" in it is a mount point",
                          directory, found.front()))
      .detail("The restored directory could not take the place of what is mounted there.")
      .hint(
          "Mount it outside the data directory, with a symbolic link to it, or restore WITH "
          "data_directory. Nothing was changed.");
}

}  // namespace holdfast::restore
