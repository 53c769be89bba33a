#pragma once

#include <functional>
#include <string>

#include "base/clock.h"
#include "base/stop.h"
#include "io/file_system.h"
#include "jobs/job.h"
#include "manifest.pb.h"
#include "restore/layout.h"
#include "restore/restore_job.h"
#include "restore_job.pb.h"

namespace holdfast::restore {

/// What the directories that a restore fills must be like. Nothing is written here but by
/// claim_directories() and clear_directories().

/// Throws kObjectNotInPrerequisiteState unless the instance may be replaced: no user's objects in
/// it; or it is down, and what is in its data directory is not a cluster.
void require_replaceable(TargetInstance& instance, const Stop& stop);

/// Decides where a restore into the instance builds and moves: root, moves and what it makes, into
/// `checkpoint`.
void plan_in_place(const std::string& data_directory, jobs::JobId job, Time now,
                   proto::RestoreCheckpoint& checkpoint);
/// The name of the directory in a tablespace's location where its restored content waits.
std::string staging_name(jobs::JobId job);
/// Adds the tablespaces' moves and directories, behind plan_in_place(). Throws
/// kObjectNotInPrerequisiteState when a version directory is not the instance's to be put aside.
void plan_tablespaces_in_place(const Layout& layout, Time now,
                               proto::RestoreCheckpoint& checkpoint);
void plan_tablespace_in_place(const TablespaceTarget& space, Time now,
                              proto::RestoreCheckpoint& checkpoint);
/// The same check once more, before anything is moved.
void require_replaceable_tablespaces(const proto::RestoreCheckpoint& checkpoint);

/// Checks option data_directory and the tablespaces' places, and notes in `checkpoint` what was
/// absent or empty.
struct ElsewhereRequest {
  const proto::RestoreJobSpec& spec;
  const collection::proto::Manifest& manifest;
  const Layout& layout;
  std::string live_directory;
  jobs::JobId job;
  const std::function<bool(jobs::JobId)>& is_unfinished;
  io::FileSystem& files;
};
void check_elsewhere(const ElsewhereRequest& request, proto::RestoreCheckpoint& checkpoint);

struct Claim {
  jobs::JobId job;
  /// Whether a job with this number is at work or waits to go on; what it fills is not to be
  /// touched.
  const std::function<bool(jobs::JobId)>& is_unfinished;
  bool take_over = false;  ///< what is there may be changed: it was checked by check_elsewhere()
  bool again = false;      ///< an earlier attempt had marked all roots
};
/// Whether a root of the layout carries the mark of another job than `job`.
bool has_foreign_marker(const Layout& layout, jobs::JobId job, io::FileSystem& files);
/// Makes the roots of a layout and marks them as ours. Throws kObjectInUse when a server runs on
/// the data directory, or another job that has not ended fills one of them;
/// kObjectNotInPrerequisiteState when one is neither ours nor empty and may not be taken over.
void claim_directories(const Layout& layout, const Claim& claim, io::FileSystem& files);
/// Throws kObjectInUse or kObjectNotInPrerequisiteState unless the roots still carry our marks and
/// no server runs on the data directory.
void require_claimed(const Layout& layout, jobs::JobId job, io::FileSystem& files);
/// Takes our marks away from a data directory and from its tablespaces.
void release_directories(const std::string& data_directory, jobs::JobId job, io::FileSystem& files);
/// Removes what the job made in directories that were absent or empty before, if they carry its
/// mark. Safe to repeat.
void clear_directories(const proto::RestoreCheckpoint& checkpoint, jobs::JobId job,
                       io::FileSystem& files);

}  // namespace holdfast::restore
