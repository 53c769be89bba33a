#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace holdfast::restore {

/// The mount points below `directory`, an absolute path without links. `mounts`: what
/// /proc/self/mountinfo holds. Source: Linux, Documentation/filesystems/proc.rst.
std::vector<std::string> mounts_below(std::string_view directory, std::string_view mounts);

/// Throws kObjectNotInPrerequisiteState when something is mounted below `directory`: it could not
/// be moved aside with it, or would be mounted over what takes its place.
void require_no_mounts_below(const std::string& directory);

}  // namespace holdfast::restore
