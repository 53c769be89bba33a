#include "restore/replayed_tablespaces.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/error.h"
#include "io/file.h"
#include "postgres/relation_path.h"
#include "postgres/versions.h"
#include "restore/marker.h"
#include "restore/tablespace_mapping.h"

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

bool has_entries(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd && !io::read_directory(fd.get(), path).empty();
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

std::string version_directory(const ReplayedTablespace& tablespace, const Manifest& manifest) {
  const auto& instance = manifest.instance();
  return fmt::format("{}/{}", tablespace.location,
                     postgres::tablespace_version_directory(
                         postgres::major_of(static_cast<int>(instance.server_version_num())),
                         instance.catalog_version()));
}

/// A server makes its version directory with the tablespace, and takes one that is there for
/// another's; but in replay it goes on with it. Source: PostgreSQL
/// src/backend/commands/tablespace.c (create_tablespace_directories).
void take_place(const ReplayedTablespace& tablespace, const SettleRequest& request) {
  struct stat status {};
  if (::stat(tablespace.location.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    throw place_error(tablespace, "and that directory does not exist here")
        .hint(fmt::format("Make the directory, owned by PostgreSQL's user, and restore again; or "
                          "give another place: tablespace_mapping = '{}=/new/path'.",
                          tablespace.oid));
  }
  const std::string version = version_directory(tablespace, request.manifest);
  if (request.in_place) {
    // An empty one is the live server's, which has nothing in it and is about to end.
    if (has_entries(version)) throw taken(tablespace, version);
    return;
  }
  const bool ours = std::ranges::any_of(request.checkpoint.made(), [&](const auto& made) {
    return made.path() == version && made.was_absent();
  });
  if (!ours) {
    if (path_exists(version)) throw taken(tablespace, version);
    auto& made = *request.checkpoint.add_made();
    made.set_path(version);
    made.set_was_absent(true);
    request.save();
  }
  if (request.files.mkdir_at(AT_FDCWD, version.c_str(), request.layout.root_mode) == 0) return;
  if (errno != EEXIST) throw_errno(fmt::format("create directory \"{}\"", version));
  if (!ours || has_entries(version)) throw taken(tablespace, version);
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
