#include "restore/recovery_target.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/wal_archive.h"
#include "io/file.h"
#include "io/file_system.h"
#include "postgres/control_file.h"
#include "postgres/timeline_path.h"
#include "postgres/versions.h"
#include "postgres/wal_changes.h"
#include "postgres/wal_scan.h"
#include "restore/recovery_files.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;
using postgres::Lsn;

constexpr std::uint64_t kLongestHistory = 1ULL << 20;

postgres::TimelinePath path_to(const proto::RecoveryTarget& target, storage::ObjectStore& store,
                               const Manifest& layer, const Stop& stop) {
  auto path = collection::get_timeline_path(store, layer.instance().system_identifier(),
                                            target.timeline(), stop, layer.wal_directory());
  if (!path) {
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("the history of timeline {} is not in the archive", target.timeline()));
  }
  return std::move(*path);
}

bool has_entries(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd && !io::read_directory(fd.get(), path).empty();
}

void refuse_tablespace(const postgres::TablespaceCreation& created, const Manifest& layer) {
  if (created.location.empty()) return;
  throw Error(sqlstate::kFeatureNotSupported,
              fmt::format("a full backup of a moment behind the creation of tablespace {} is not "
                          "supported yet",
                          created.oid))
      .detail(fmt::format("It was created at \"{}\" after the layer \"{}\", and recovery to the "
                          "moment would make it there once more.",
                          created.location, layer.subdirectory()))
      .hint(
          "BACKUP INTO LATEST IN … AS OF SYSTEM TIME adds the moment to the chain. Once the chain "
          "has an ordinary layer behind the creation, later moments can be had.");
}

/// Replay of CREATE TABLESPACE removes what is in its place.
/// Source: PostgreSQL src/backend/commands/tablespace.c (create_tablespace_directories).
void check_tablespace(const postgres::TablespaceCreation& created, const Manifest& layer,
                      const Layout& layout) {
  const std::string location(created.location);
  if (location.empty()) return;  // in place, inside the data directory
  // What this restore itself lays out there is what replay makes anew.
  const bool own = std::ranges::any_of(layout.tablespaces, [&](const TablespaceTarget& one) {
    return one.oid == created.oid && one.location == location;
  });
  if (own) return;
  const auto error = [&](const std::string& what) {
    return Error(sqlstate::kObjectNotInPrerequisiteState,
                 fmt::format("tablespace {} was created at \"{}\" after the backup began, {}",
                             created.oid, location, what));
  };
  struct stat status {};
  if (::stat(location.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    throw error("and that directory does not exist here")
        .hint("Make the directory, owned by PostgreSQL's user, and restore again.");
  }
  const int major = postgres::major_of(static_cast<int>(layer.instance().server_version_num()));
  const std::string version = fmt::format(
      "{}/{}", location,
      postgres::tablespace_version_directory(major, layer.instance().catalog_version()));
  if (has_entries(version)) {
    throw error(fmt::format("and \"{}\" has files in it, which replay would remove", version))
        .hint(
            "Restore on another host, to a moment before the tablespace was created, or from a "
            "later backup, which can map tablespaces.");
  }
}

}  // namespace

void add_wal_up_to(const proto::RecoveryTarget& target, storage::ObjectStore& store,
                   Manifest& layer, const Stop& stop) {
  if (!target.wal_layer().empty()) {
    const auto holder = collection::read_manifest(store, target.wal_layer(), stop);
    if (!holder) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("backup \"{}\" does not exist any more", target.wal_layer()));
    }
    return collection::take_history(layer, *holder, Lsn{target.end()});
  }
  const auto path = path_to(target, store, layer, stop);
  collection::extend_wal(layer, path, Lsn{target.end()});
}

void adopt_target(const Manifest& layer, proto::RestoreJobSpec& spec) {
  if (spec.has_target()) return;
  if (const auto own = collection::target_of(layer)) set_target(*own, spec);
}

void set_target(const collection::RecoveryTarget& target, proto::RestoreJobSpec& spec) {
  spec.mutable_target()->set_timeline(target.timeline);
  spec.mutable_target()->set_record(target.record.value);
  spec.mutable_target()->set_end(target.end.value);
  spec.mutable_target()->set_wal_layer(target.wal_layer);
}

void require_last_record(const proto::RecoveryTarget& target, Lsn last) {
  if (last == Lsn{target.record()}) return;
  throw Error(sqlstate::kDataCorrupted, fmt::format("the WAL does not lead to the record at {}",
                                                    to_string(Lsn{target.record()})))
      .detail(fmt::format("The last record before {} is at {}.", to_string(Lsn{target.end()}),
                          to_string(last)));
}

void check_wal(const proto::RecoveryTarget* target, const Manifest& layer, const Layout& layout,
               storage::ObjectStore& store, const Stop& stop, ReplayedTablespaces tablespaces) {
  // A backup ends on the timeline that it began on.
  const auto path = target != nullptr ? path_to(*target, store, layer, stop)
                                      : postgres::TimelinePath(layer.stop().timeline(), {});
  const std::uint64_t bytes = layer.instance().wal_segment_bytes();
  const postgres::WalRange range{
      .reader = {.major =
                     postgres::major_of(static_cast<int>(layer.instance().server_version_num())),
                 .wal_segment_bytes = bytes,
                 .start = Lsn{layer.start().position()},
                 .system_identifier = layer.instance().system_identifier()},
      .end = Lsn{target != nullptr ? target->end() : layer.stop().position()}};
  Lsn last;
  postgres::scan_wal(
      range, postgres::wal_directory_input(layout.root + "/pg_wal", path, bytes),
      [&](const postgres::WalRecord& record) {
        last = record.start;
        const auto created = postgres::parse_tablespace_creation(record);
        if (!created) return;
        if (tablespaces == ReplayedTablespaces::Refused) refuse_tablespace(*created, layer);
        check_tablespace(*created, layer, layout);
      },
      stop);
  if (target != nullptr) require_last_record(*target, last);
}

void require_recovered_to(const proto::RecoveryTarget& target, const std::string& data_directory) {
  const auto timeline = timeline_of_directory(data_directory);
  const std::string name = postgres::timeline_history_name(timeline);
  const auto text =
      io::read_whole(io::FileSystem::real(), data_directory + "/pg_wal/" + name, kLongestHistory);
  if (!text) {
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("the restored server has no history of its timeline {}", timeline));
  }
  const auto ancestors = postgres::parse_timeline_history(as_text(*text), name);
  if (!ancestors.empty() && ancestors.back().timeline == target.timeline() &&
      ancestors.back().switch_point == Lsn{target.end()}) {
    return;
  }
  throw Error(sqlstate::kDataCorrupted,
              fmt::format("the server recovered to {} of timeline {} instead of {} of timeline {}",
                          ancestors.empty() ? "nowhere" : to_string(ancestors.back().switch_point),
                          ancestors.empty() ? 0 : ancestors.back().timeline,
                          to_string(Lsn{target.end()}), target.timeline()));
}

}  // namespace holdfast::restore
