#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/stop.h"
#include "collection/changes.h"
#include "manifest.pb.h"
#include "postgres/control_file.h"
#include "postgres/lsn.h"
#include "postgres/timeline_path.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// The newest finished layer of a chain before `directory`, which continues it. Later ones may be
/// there when an interrupted backup goes on. Throws kUndefinedFile when the full does not exist,
/// kObjectNotInPrerequisiteState when a pack of the layer is missing.
collection::proto::Manifest read_base_layer(storage::ObjectStore& store, std::string_view full,
                                            std::string_view directory, const Stop& stop);

/// What a layer says of the one that it continues.
void refer_to(const collection::proto::Manifest& base,
              collection::proto::LayerReference& reference);

/// The server's history, from its current timeline's history file: in pg_wal, or else in the
/// collection's archive. Throws kUndefinedFile when there is none.
postgres::TimelinePath read_timeline_path(storage::ObjectStore& store,
                                          const std::filesystem::path& data_directory,
                                          std::uint64_t system_identifier,
                                          postgres::TimelineId timeline, const Stop& stop);

/// Throws kObjectNotInPrerequisiteState, with the hint to take a full backup, unless a layer can
/// continue `base`: the same cluster with the same page checksums, and a history that the base lies
/// on whole.
void require_same_cluster(const collection::proto::Manifest& base,
                          const postgres::ControlFile& control);
struct LayerStart {
  postgres::Lsn position;
  postgres::TimelineId timeline = 0;
  bool from_standby = false;  ///< it may begin before the base ended, on the primary
};
void require_same_history(const collection::proto::Manifest& base, const LayerStart& start,
                          const postgres::TimelinePath& path);

/// For a layer taken from a standby, whose pages may be behind those of a base taken elsewhere: the
/// control file that goes into it must keep recovery from ending before the base's end. `path` is
/// the history of the newer of the layer's timeline and the control file's. Throws
/// kObjectNotInPrerequisiteState when the control file is of another history than the base.
bool has_replayed(const collection::proto::Manifest& base, const postgres::ControlFile& control,
                  const postgres::TimelinePath& path);
/// The error of a standby that has not replayed it in time.
Error not_replayed(const collection::proto::Manifest& base, const postgres::ControlFile& control);

/// Throws kObjectNotInPrerequisiteState when the server's pg_wal has the place where the base, a
/// backup of a primary, ended, and not the record of that: its disk was set back to a snapshot of
/// before, and what it wrote since looks like WAL that continues the base. `path` leads to the
/// server's timeline, and `wal_directory` has what it flushed. Nothing for other bases.
void require_end_in_wal(const collection::proto::Manifest& base, const std::string& wal_directory,
                        const postgres::TimelinePath& path);

/// Throws kObjectNotInPrerequisiteState when what changed is not known from WAL, and may not be
/// found out from the pages' LSNs instead.
void require_page_comparison_allowed(const collection::proto::Manifest& base,
                                     const collection::Changes& changes, bool revision_history);

}  // namespace holdfast::backup
