#include "restore/target.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "base/error.h"
#include "io/file.h"
#include "postgres/control_file.h"
#include "postgres/instance.h"
#include "restore/marker.h"
#include "restore/swap.h"
#include "restore/tablespace_owner.h"
#include "restore/user_objects.h"

namespace holdfast::restore {
namespace {

/// "20261120-223000", in UTC: for names of directories.
std::string compact_time(Time time) {
  const std::time_t seconds =
      std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  const std::size_t length = std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", &parts);
  return {text, length};
}

bool is_within(const std::string& path, const std::string& directory) {
  return path == directory || path.starts_with(directory + "/");
}

std::string link_target(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
  return length < 0 ? std::string() : std::string(target, static_cast<std::size_t>(length));
}

void add_made(proto::RestoreCheckpoint& checkpoint, const std::string& path) {
  auto& made = *checkpoint.add_made();
  made.set_path(path);
  made.set_was_absent(!path_exists(path));
}

std::vector<std::string> roots_of(const Layout& layout) {
  std::vector<std::string> roots = {layout.root};
  for (const auto& space : layout.tablespaces) {
    if (!space.inside) roots.push_back(space.build);
  }
  return roots;
}

void require_no_server(const std::string& root) {
  const auto postmaster = postgres::find_postmaster(root);
  if (!postmaster) return;
  throw Error(sqlstate::kObjectInUse,
              fmt::format("a PostgreSQL server with process number {} runs on \"{}\"",
                          postmaster->pid, root))
      .hint("Stop it first.");
}

/// Of another job that may go on at any moment.
void require_not_being_filled(const std::string& root, jobs::JobId job,
                              const std::function<bool(jobs::JobId)>& is_unfinished,
                              io::FileSystem& files) {
  const auto other = marker_job(files, root);
  if (!other || *other == job || !is_unfinished(*other)) return;
  throw Error(sqlstate::kObjectInUse,
              fmt::format("directory \"{}\" is being filled by restore job {}", root, *other))
      .hint(fmt::format("Wait until that job has ended, or end it: CANCEL JOB {}.", *other));
}

void require_delta_target(const ElsewhereRequest& request) {
  const std::string& root = request.layout.root;
  require_no_server(root);
  require_not_being_filled(root, request.job, request.is_unfinished, request.files);
  if (marker_owner(request.files, root, request.job) != Owner::Nobody) return;
  const std::uint64_t wanted = request.manifest.instance().system_identifier();
  std::uint64_t found = 0;
  try {
    found = postgres::read_control_file(root).system_identifier;
  } catch (const Error& error) {
    throw Error(
        sqlstate::kObjectNotInPrerequisiteState,
        fmt::format("directory \"{}\" is neither empty nor a PostgreSQL data directory", root))
        .detail(
            fmt::format("Option delta removes what is not in the backup: {}.", error.message()));
  }
  if (found != wanted) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("directory \"{}\" belongs to another cluster than the backup", root))
        .detail(fmt::format("Its system identifier is {}, that of the backup {}.", found, wanted));
  }
}

void check_data_directory(const ElsewhereRequest& request, proto::RestoreCheckpoint& checkpoint) {
  const std::string& root = request.layout.root;
  const std::string own = canonical(root);
  const std::string live = canonical(request.live_directory);
  if (!request.live_directory.empty() && (is_within(own, live) || is_within(live, own))) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("data_directory \"{}\" overlaps with the data directory of the running "
                            "instance",
                            root))
        .hint("RESTORE without data_directory restores into the instance itself.");
  }
  if (is_absent_or_empty(root)) {
    add_made(checkpoint, root);
    return;
  }
  if (!request.spec.delta()) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("directory \"{}\" exists but is not empty", root))
        .hint(
            "Give an empty or absent directory, or option delta to make an existing one equal to "
            "the backup.");
  }
  require_delta_target(request);
}

void check_target_tablespace(const ElsewhereRequest& request, const TablespaceTarget& space,
                             proto::RestoreCheckpoint& checkpoint) {
  if (is_absent_or_empty(space.location)) {
    add_made(checkpoint, space.location);
    return;
  }
  require_not_being_filled(space.location, request.job, request.is_unfinished, request.files);
  const std::string link = fmt::format("{}/pg_tblspc/{}", request.layout.root, space.oid);
  const bool own = link_target(link) == space.location ||
                   marker_owner(request.files, space.location, request.job) != Owner::Nobody;
  if (request.spec.delta() && own && !is_tablespace_of(space.location, request.live_directory)) {
    return;
  }
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("directory \"{}\" of tablespace {} exists but is not empty",
                          space.location, space.oid))
      .hint(fmt::format("Give the tablespace another place: tablespace_mapping = '{}=/new/path'.",
                        space.oid));
}

Error changed_meanwhile(const std::string& root) {
  return Error(sqlstate::kObjectNotInPrerequisiteState,
               fmt::format("directory \"{}\" was changed while the restore was at work", root));
}

void clear_directory(io::FileSystem& files, const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno(fmt::format("open directory \"{}\"", path));
  for (const auto& entry : io::read_directory(fd.get(), path)) {
    if (entry.name == kMarkerName || entry.name == "lost+found") continue;
    io::remove_tree(files, path + "/" + entry.name);
  }
  // Last: without it, a repetition would take what is left for somebody else's.
  io::remove_file(files, fmt::format("{}/{}", path, kMarkerName));
}

}  // namespace

void require_replaceable(TargetInstance& instance, const Stop& stop) {
  if (instance.running()) {
    require_no_user_objects(instance.user_objects(stop));
    return;
  }
  const std::string directory = instance.data_directory();
  if (path_exists(directory + "/PG_VERSION") &&
      path_exists(fmt::format("{}/{}", directory, postgres::kControlFilePath))) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("full cluster restore cannot tell whether \"{}\" holds tables or "
                            "databases, because PostgreSQL is not running",
                            directory))
        .hint(
            "Start PostgreSQL; or, if that is impossible, move the directory away (do not delete "
            "it) and run RESTORE again.");
  }
}

std::string staging_name(jobs::JobId job) { return fmt::format(".holdfast-restore-{}", job); }

void plan_in_place(const std::string& data_directory, jobs::JobId job, Time now,
                   proto::RestoreCheckpoint& checkpoint) {
  const proto::RestoreMove move =
      plan_data_directory_move({.live = follow_links(data_directory),
                                .staging_suffix = staging_name(job).substr(1),
                                .time = compact_time(now)});
  checkpoint.set_root(move.staged());
  *checkpoint.add_moves() = move;
  add_made(checkpoint, move.staged());
}

void plan_tablespace_in_place(const TablespaceTarget& space, Time now,
                              proto::RestoreCheckpoint& checkpoint) {
  const std::string live = space.location + "/" + space.version_directory;
  require_replaceable_tablespace(live, checkpoint.moves(0).live());
  auto& move = *checkpoint.add_moves();
  move.set_live(live);
  move.set_staged(space.build + "/" + space.version_directory);
  move.set_aside(fmt::format("{}.before-restore-{}", live, compact_time(now)));
  move.set_failed(fmt::format("{}.failed-restore-{}", live, compact_time(now)));
  add_made(checkpoint, space.build);
}

void plan_tablespaces_in_place(const Layout& layout, Time now,
                               proto::RestoreCheckpoint& checkpoint) {
  for (const auto& space : layout.tablespaces) {
    if (!space.inside) plan_tablespace_in_place(space, now, checkpoint);
  }
}

void require_replaceable_tablespaces(const proto::RestoreCheckpoint& checkpoint) {
  for (int i = 1; i < checkpoint.moves_size(); ++i) {
    require_replaceable_tablespace(checkpoint.moves(i).live(), checkpoint.moves(0).live());
  }
}

void check_elsewhere(const ElsewhereRequest& request, proto::RestoreCheckpoint& checkpoint) {
  check_data_directory(request, checkpoint);
  for (const auto& space : request.layout.tablespaces) {
    if (!space.inside) check_target_tablespace(request, space, checkpoint);
  }
}

bool has_foreign_marker(const Layout& layout, jobs::JobId job, io::FileSystem& files) {
  return std::ranges::any_of(roots_of(layout), [&](const std::string& root) {
    return marker_owner(files, root, job) == Owner::OtherJob;
  });
}

void claim_directories(const Layout& layout, const Claim& claim, io::FileSystem& files) {
  // One may have been started since the check, while the job was paused, say.
  require_no_server(layout.root);
  for (const auto& root : roots_of(layout)) {
    io::make_directories(files, root);
    const UniqueFd lock = lock_directory(root);
    if (marker_owner(files, root, claim.job) == Owner::ThisJob) continue;
    require_not_being_filled(root, claim.job, claim.is_unfinished, files);
    const bool ours_to_take = claim.take_over && !claim.again;
    if (!ours_to_take && !is_absent_or_empty(root)) throw changed_meanwhile(root);
    remove_unfinished_markers(files, root);
    write_marker(files, root, claim.job);
  }
}

void require_claimed(const Layout& layout, jobs::JobId job, io::FileSystem& files) {
  require_no_server(layout.root);
  for (const auto& root : roots_of(layout)) {
    if (marker_owner(files, root, job) != Owner::ThisJob) throw changed_meanwhile(root);
  }
}

void release_directories(const std::string& data_directory, jobs::JobId job,
                         io::FileSystem& files) {
  const std::string links = data_directory + "/pg_tblspc";
  if (const UniqueFd fd{::open(links.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)}) {
    for (const auto& entry : io::read_directory(fd.get(), links)) {
      remove_marker(files, links + "/" + entry.name, job);
    }
  }
  remove_marker(files, data_directory, job);
}

void clear_directories(const proto::RestoreCheckpoint& checkpoint, jobs::JobId job,
                       io::FileSystem& files) {
  for (const auto& made : checkpoint.made()) {
    std::string path = made.path();
    if (!made.built_as().empty()) {
      if (made.inode() != 0 && inode_of(path) == made.inode()) {
        rename_directory(files, path, made.built_as());
      }
      path = made.built_as();
    }
    if (!path_exists(path)) continue;
    remove_unfinished_markers(files, path);
    if (marker_owner(files, path, job) == Owner::ThisJob) clear_directory(files, path);
    // What is not ours, or came later, stays.
    if (made.was_absent() && ::rmdir(path.c_str()) != 0 && errno != ENOTEMPTY && errno != EEXIST) {
      throw_errno(fmt::format("remove directory \"{}\"", path));
    }
  }
}

}  // namespace holdfast::restore
