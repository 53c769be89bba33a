#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/job.h"
#include "manifest.pb.h"
#include "restore_job.pb.h"

namespace holdfast::restore {

/// Configuration files from outside the data directory are laid here, below the data directory,
/// under their original absolute paths.
inline constexpr std::string_view kExternalConfigDirectory = "holdfast_external_config";

struct TablespaceTarget {
  std::uint32_t oid = 0;
  std::string location;           ///< where the link in pg_tblspc will point; absolute
  std::string build;              ///< where the version directory is filled
  std::string version_directory;  ///< "PG_15_202209061"
  /// The location lies inside the data directory, and moves with it.
  bool inside = false;
};

struct FileTarget {
  std::uint32_t id = 0;
  std::uint64_t size = 0;
  mode_t mode = 0600;
  collection::proto::FileKind kind = collection::proto::FILE_KIND_UNSPECIFIED;
  std::string path;  ///< absolute: where it is built
};

struct DirectoryTarget {
  std::string path;
  mode_t mode = 0700;
};

/// Where everything of a backup goes.
struct Layout {
  std::string root;
  mode_t root_mode = 0700;
  std::vector<TablespaceTarget> tablespaces;
  std::vector<DirectoryTarget> directories;  ///< below root and the tablespaces, parents first
  std::vector<FileTarget> files;             ///< the control file among them
  /// Only some of the backup's files are wanted: the others are passed over, and no WAL is put into
  /// pg_wal (partial_layout.h).
  bool partial = false;

  /// The mode of files that we make ourselves: 0640 where the cluster allows group access.
  mode_t file_mode() const { return (root_mode & 0040) != 0 ? 0640 : 0600; }
};

struct LayoutRequest {
  std::string root;        ///< where the data directory is built
  std::string final_root;  ///< where it will stand; the same for data_directory
  std::vector<proto::TablespaceMapping> tablespace_mapping{};
  /// Tablespaces are built in this directory of their location, and moved later; empty: in place.
  std::string tablespace_build_name{};
  /// Tablespaces that the backup does not have and replay makes: laid out empty. Each is mapped.
  std::vector<proto::RestoreCheckpoint::Replayed> replayed{};
};

/// Throws kDataCorrupted for a manifest whose paths lead elsewhere or occur twice,
/// kInvalidParameterValue for a mapping that names no tablespace of the backup or puts two at one
/// place.
Layout make_layout(const collection::proto::Manifest& manifest, const LayoutRequest& request);

}  // namespace holdfast::restore
