#include "restore/replayed_tablespaces.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "io/file.h"
#include "postgres/relation_path.h"
#include "postgres/versions.h"
#include "restore/marker.h"
#include "restore/swap.h"
#include "restore/tablespace_mapping.h"
#include "restore/target.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;

bool backup_has(const Manifest& manifest, std::uint32_t oid) {
  return std::ranges::any_of(manifest.tablespaces(),
                             [&](const auto& space) { return space.oid() == oid; });
}

Error place_error(const ReplayedTablespace& tablespace, const std::string& what) {
  return Error(sqlstate::kObjectNotInPrerequisiteState,
               fmt::format("tablespace {} was created at \"{}\" after the backup began, {}",
                           tablespace.oid, tablespace.location, what));
}

Error taken(const ReplayedTablespace& tablespace, const std::string& directory) {
  return place_error(tablespace,
                     fmt::format("and \"{}\" is another server's, whose files replay would change",
                                 directory))
      .hint(
          fmt::format("Give the tablespace another place: tablespace_mapping = '{}=/new/path'; or, "
                      "where no server uses that directory any more, move it away.",
                      tablespace.oid));
}

void require_location(const ReplayedTablespace& tablespace, const Manifest& manifest) {
  // A data directory is filled and moved as a whole, and nobody makes this one in it.
  const std::string old_root = manifest.instance().data_directory() + "/";
  if (tablespace.location.starts_with(old_root)) {
    throw place_error(tablespace, "and that is in the data directory of the server it was of")
        .hint(fmt::format("Give the tablespace another place: tablespace_mapping = '{}=/new/path'.",
                          tablespace.oid));
  }
  struct stat status {};
  if (::stat(tablespace.location.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    throw place_error(tablespace, "and that directory does not exist here")
        .hint(fmt::format("Make the directory, owned by PostgreSQL's user, and restore again; or "
                          "give another place: tablespace_mapping = '{}=/new/path'.",
                          tablespace.oid));
  }
}

void make_directory(io::FileSystem& files, const std::string& path, mode_t mode) {
  if (files.mkdir_at(AT_FDCWD, path.c_str(), mode) != 0 && errno != EEXIST) {
    throw_errno(fmt::format("create directory \"{}\"", path));
  }
}

/// What replay finds in the place is the restore's own, is put aside like the rest when the server
/// does not start, and what was there before comes back.
void stage_place(const TablespaceTarget& target, const SettleRequest& request) {
  const std::string live = target.location + "/" + target.version_directory;
  const bool planned = std::ranges::any_of(request.checkpoint.moves(),
                                           [&](const auto& move) { return move.live() == live; });
  if (!planned) {
    plan_tablespace_in_place(target, request.now, request.checkpoint);
    request.save();
  }
  io::make_directories(request.files, target.build, request.layout.root_mode);
  write_marker(request.files, target.build, request.job);
  make_directory(request.files, target.build + "/" + target.version_directory,
                 request.layout.root_mode);
  io::sync_directory(request.files, target.build);
}

/// A server makes its version directory with the tablespace, and takes one that is there for
/// another's; but in replay it goes on with it. Source: PostgreSQL
/// src/backend/commands/tablespace.c (create_tablespace_directories). Ours appears there under its
/// own name with an inode that the checkpoint knows, so that nobody else's is taken for it.
void claim_place(const ReplayedTablespace& tablespace, const TablespaceTarget& target,
                 const SettleRequest& request) {
  const std::string version = target.location + "/" + target.version_directory;
  auto& all = *request.checkpoint.mutable_made();
  auto made = std::ranges::find(all, version, &proto::RestoreCheckpoint::Made::path);
  if (made != all.end() && made->inode() != 0 && inode_of(version) == made->inode()) return;
  if (path_exists(version)) throw taken(tablespace, version);
  if (made == all.end()) {
    auto& one = *request.checkpoint.add_made();
    one.set_path(version);
    one.set_was_absent(true);
    one.set_built_as(fmt::format("{}-{}", target.build, io::random_suffix()));
    request.save();
    made = std::prev(all.end());
  }
  make_directory(request.files, made->built_as(), request.layout.root_mode);
  made->set_inode(inode_of(made->built_as()));
  request.save();
  rename_directory(request.files, made->built_as(), version);
}

/// Whether the server had the tablespace there: of the layer's, or of those that the WAL makes.
bool was_at(std::uint32_t oid, const std::string& location, const SettleRequest& request) {
  const auto is = [&](const auto& space) {
    return space.oid() == oid && space.location() == location;
  };
  return std::ranges::any_of(request.manifest.tablespaces(), is) ||
         std::ranges::any_of(request.checkpoint.replayed(), is);
}

void take_place(const ReplayedTablespace& tablespace, const SettleRequest& request) {
  const auto mapped = std::ranges::find_if(
      request.spec.tablespace_mapping(),
      [&](const auto& entry) { return maps(entry, tablespace.oid, tablespace.location); });
  if (mapped != request.spec.tablespace_mapping().end()) {
    throw place_error(tablespace, "where the backup has another tablespace")
        .detail(
            fmt::format("Option tablespace_mapping gives \"{}\" to the other one.", mapped->to()))
        .hint(fmt::format("Give this one a place, too: tablespace_mapping = '{}=/new/path'.",
                          tablespace.oid));
  }
  const auto ours = std::ranges::find(request.layout.tablespaces, tablespace.location,
                                      &TablespaceTarget::location);
  if (ours != request.layout.tablespaces.end()) {
    // Dropped before this one was made there; or it was elsewhere, and both would be one.
    if (was_at(ours->oid, tablespace.location, request)) return;
    throw place_error(tablespace, "where another tablespace is restored to")
        .hint(fmt::format("Give this one a place, too: tablespace_mapping = '{}=/new/path'.",
                          tablespace.oid));
  }
  require_location(tablespace, request.manifest);
  const auto& instance = request.manifest.instance();
  const TablespaceTarget target{
      .oid = tablespace.oid,
      .location = tablespace.location,
      .build = fmt::format("{}/{}", tablespace.location, staging_name(request.job)),
      .version_directory = postgres::tablespace_version_directory(
          postgres::major_of(static_cast<int>(instance.server_version_num())),
          instance.catalog_version())};
  if (request.spec.data_directory().empty()) return stage_place(target, request);
  claim_place(tablespace, target, request);
}

}  // namespace

std::optional<ReplayedTablespace> replayed_tablespace(const postgres::WalRecord& record) {
  const auto created = postgres::parse_tablespace_creation(record);
  if (!created || created->location.empty()) return std::nullopt;
  using postgres::TablespacePath;
  return ReplayedTablespace{
      .oid = created->oid,
      .location = std::string(created->location),
      .record = record.start,
      .hidden = created->hidden,
      .other_form = postgres::with_path(
          record, created->hidden ? TablespacePath::Seen : TablespacePath::Hidden)};
}

void set_path(const ReplayedTablespace& tablespace, postgres::TablespacePath path,
              const postgres::WalFiles& wal, io::FileSystem& files) {
  if (tablespace.hidden == (path == postgres::TablespacePath::Hidden)) return;
  postgres::overwrite_record(files, wal, tablespace.record, tablespace.other_form);
}

bool maps_beyond(const Manifest& manifest, const proto::RestoreJobSpec& spec) {
  return std::ranges::any_of(spec.tablespace_mapping(), [&](const auto& entry) {
    return std::ranges::none_of(manifest.tablespaces(), [&](const auto& space) {
      return maps(entry, space.oid(), space.location());
    });
  });
}

void note_mapped(const std::vector<ReplayedTablespace>& tablespaces, const Manifest& manifest,
                 const proto::RestoreJobSpec& spec, proto::RestoreCheckpoint& checkpoint) {
  for (const auto& tablespace : tablespaces) {
    const bool mapped = std::ranges::any_of(spec.tablespace_mapping(), [&](const auto& entry) {
      return maps(entry, tablespace.oid, tablespace.location);
    });
    if (!mapped || backup_has(manifest, tablespace.oid)) continue;
    auto& noted = *checkpoint.add_replayed();
    noted.set_oid(tablespace.oid);
    noted.set_location(tablespace.location);
  }
}

void settle_tablespaces(const std::vector<ReplayedTablespace>& tablespaces,
                        const SettleRequest& request) {
  using postgres::TablespacePath;
  for (const auto& tablespace : tablespaces) {
    const auto own =
        std::ranges::find(request.layout.tablespaces, tablespace.oid, &TablespaceTarget::oid);
    if (own == request.layout.tablespaces.end()) {
      take_place(tablespace, request);
      set_path(tablespace, TablespacePath::Seen, request.wal, request.files);
    } else if (own->location != tablespace.location) {
      set_path(tablespace, TablespacePath::Hidden, request.wal, request.files);
    }
  }
}

}  // namespace holdfast::restore
