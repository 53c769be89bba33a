#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "io/file_system.h"
#include "jobs/job.h"

namespace holdfast::restore {

/// A file in each directory that a restore job is filling: proof that what is there is the job's,
/// so that it may be continued or removed. Removed at the very end.
inline constexpr std::string_view kMarkerName = ".holdfast-restore";

enum class Owner {
  Nobody,   ///< no marker
  ThisJob,  ///< ours
  OtherJob  ///< of a job that ended half-way, or is at work: marker_job() tells which
};
Owner marker_owner(io::FileSystem& files, const std::string& directory, jobs::JobId job);
/// The job that the marker names; absent when there is no marker, or none that can be read.
std::optional<jobs::JobId> marker_job(io::FileSystem& files, const std::string& directory);
/// Durable when it returns. Of two jobs that want a directory at once, this is done by the one that
/// holds lock_directory().
void write_marker(io::FileSystem& files, const std::string& directory, jobs::JobId job);
/// Leaves that of another job.
void remove_marker(io::FileSystem& files, const std::string& directory, jobs::JobId job);
/// Removes what writing a marker left behind when the process was killed at it.
void remove_unfinished_markers(io::FileSystem& files, const std::string& directory);
/// Held until the descriptor is closed. File systems that have no locks give none.
UniqueFd lock_directory(const std::string& directory);

/// Whether the path exists, without following a link.
bool path_exists(const std::string& path);
/// With every link followed as far as the path exists; the path itself where that fails.
std::string canonical(const std::string& path);
/// Of the path itself; 0 when it does not exist.
std::uint64_t inode_of(const std::string& path);
/// True for a directory without entries, but for what mkfs or a killed write_marker() left, and for
/// one that does not exist.
bool is_absent_or_empty(const std::string& directory);
/// `path` with the symbolic links of its last component followed: what a rename must be done to.
/// It need not exist.
std::string follow_links(std::string path);

}  // namespace holdfast::restore
