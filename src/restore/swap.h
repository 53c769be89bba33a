#pragma once

#include <string>

#include "io/file_system.h"
#include "jobs/job.h"
#include "restore_job.pb.h"

namespace holdfast::restore {

// Puts a new directory in the place of a live one, and takes that back. Every step looks at what is
// there, so that it may be repeated after a crash in the middle of it. Nothing is ever removed.

struct SwapNames {
  std::string live;
  std::string staging_suffix;  ///< "holdfast-restore-42"
  std::string time;            ///< "20261120-223000": ends the names of what is kept
};
/// How the data directory at `names.live` (links followed; it need not exist) is replaced: by
/// renaming it, or, when it is a mount point or its parent may not be written to, by moving what is
/// in it into a directory in it. Throws kObjectNotInPrerequisiteState when there are mount points
/// below it.
proto::RestoreMove plan_data_directory_move(const SwapNames& names);

/// Durably. Throws kDuplicateFile when there is something at `to`.
void rename_directory(io::FileSystem& files, const std::string& from, const std::string& to);

/// Moves the live directory to move.aside. Nothing to do when there is none.
void move_aside(io::FileSystem& files, const proto::RestoreMove& move);
/// Moves the staged directory to move.live. Throws kDuplicateFile when something else is there.
void move_in(io::FileSystem& files, const proto::RestoreMove& move);
/// The reverse of move_in(): to `destination`. Call it only while nothing was put back yet.
void take_out(io::FileSystem& files, const proto::RestoreMove& move,
              const std::string& destination);
/// The reverse of move_aside().
void put_back(io::FileSystem& files, const proto::RestoreMove& move);

}  // namespace holdfast::restore
