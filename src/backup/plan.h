#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "backup/file_table.h"
#include "base/stop.h"
#include "manifest.pb.h"
#include "postgres/wal_scope.h"

namespace holdfast::backup {

/// Everything that a backup of the cluster must copy or make again.
struct Plan {
  FileTable files;  ///< with pg_control among them; not numbered yet
  std::vector<collection::proto::Tablespace> tablespaces;
  /// Links and special files that are left out, for the user to know.
  std::vector<std::string> skipped;
};

struct PlanRequest {
  std::filesystem::path data_directory;
  /// "PG_15_202209061": the only directory below a tablespace's location that belongs to this
  /// cluster.
  std::string tablespace_version_directory;
  /// Absolute paths of the configuration files that lie outside the data directory.
  std::vector<std::filesystem::path> outside_files;
  /// Below which they are found under these paths; empty: where they are.
  std::filesystem::path outside_root{};
  /// Absent: the whole cluster.
  const postgres::WalScope* scope = nullptr;
};

/// Lists the data directory and its tablespaces the way PostgreSQL's own base backup does: nothing
/// that the server removes or makes anew at its start, no temporary relations, of unlogged ones the
/// init fork only, pg_wal and the like as empty directories.
/// Files that disappear meanwhile are no error. Throws kInsufficientPrivilege for a directory that
/// cannot be read.
/// Source: PostgreSQL src/backend/backup/basebackup.c (sendDir), versions 13 to 18.
Plan make_plan(const PlanRequest& request, const Stop& stop);

}  // namespace holdfast::backup
