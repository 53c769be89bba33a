#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "io/file_system.h"
#include "jobs/job.h"
#include "manifest.pb.h"
#include "postgres/lsn.h"
#include "postgres/tablespace_creation.h"
#include "postgres/wal_reader.h"
#include "restore/layout.h"
#include "restore_job.pb.h"

namespace holdfast::restore {

/// A tablespace that replay makes, and where it does so: at its location, which may be another
/// server's by now; or, when the record's path is hidden, in pg_tblspc, through the link that is
/// there.
struct ReplayedTablespace {
  std::uint32_t oid = 0;
  std::string location;  ///< absolute
  postgres::Lsn record;
  bool hidden = false;
  Bytes other_form;  ///< the record with its path hidden, or seen where it is hidden
};

/// Absent for records that make none, and for tablespaces that were made in place: these are
/// directories of the data directory.
std::optional<ReplayedTablespace> replayed_tablespace(const postgres::WalRecord& record);

/// Changes the record in laid-out WAL where its path is not as wanted.
void set_path(const ReplayedTablespace& tablespace, postgres::TablespacePath path,
              const postgres::WalFiles& wal, io::FileSystem& files);

/// Notes in `checkpoint` those that the mapping names and the backup does not have.
void note_mapped(const std::vector<ReplayedTablespace>& tablespaces,
                 const collection::proto::Manifest& manifest, const proto::RestoreJobSpec& spec,
                 proto::RestoreCheckpoint& checkpoint);
/// Whether the mapping names something that the backup does not have.
bool maps_beyond(const collection::proto::Manifest& manifest, const proto::RestoreJobSpec& spec);

struct SettleRequest {
  const Layout& layout;
  const collection::proto::Manifest& manifest;
  const proto::RestoreJobSpec& spec;
  jobs::JobId job;
  Time now;
  const postgres::WalFiles& wal;
  io::FileSystem& files;
  proto::RestoreCheckpoint& checkpoint;
  std::function<void()> save;  ///< makes the checkpoint durable
};
/// Sees to it that replay makes each tablespace in a place that is this restore's: one that the
/// layout has, there; another at its own location. Beside a live server that location is taken by
/// its version directory, so that nobody else can have it when a server is started on the layout.
/// Into the instance, an empty version directory is added to what takes the place of the live ones.
/// A revert takes back either. Throws kObjectNotInPrerequisiteState when the location is missing,
/// or may be another server's of the same version: the two would write to the same files.
void settle_tablespaces(const std::vector<ReplayedTablespace>& tablespaces,
                        const SettleRequest& request);

}  // namespace holdfast::restore
