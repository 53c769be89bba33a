#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/file_system.h"
#include "jobs/job.h"

namespace holdfast::restore {

/// A file in each directory that a restore job is filling: proof that what is there is the job's,
/// so that it may be continued or removed. Removed at the very end.
inline constexpr std::string_view kMarkerName = ".holdfast-restore";

enum class Owner {
  Nobody,   ///< no marker
  ThisJob,  ///< ours
  OtherJob  ///< of a job that ended half-way
};
Owner marker_owner(io::FileSystem& files, const std::string& directory, jobs::JobId job);
/// Durable when it returns.
void write_marker(io::FileSystem& files, const std::string& directory, jobs::JobId job);
void remove_marker(io::FileSystem& files, const std::string& directory);

/// Whether the path exists, without following a link.
bool path_exists(const std::string& path);
/// With every link followed as far as the path exists; the path itself where that fails.
std::string canonical(const std::string& path);
/// Of the path itself; 0 when it does not exist.
std::uint64_t inode_of(const std::string& path);
/// True for a directory without entries, and for one that does not exist.
bool is_absent_or_empty(const std::string& directory);
/// `path` with the symbolic links of its last component followed: what a rename must be done to.
/// It need not exist.
std::string follow_links(std::string path);

}  // namespace holdfast::restore
