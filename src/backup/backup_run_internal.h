#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "backup/backup_job.h"
#include "backup/wal_archives.h"
#include "backup_job.pb.h"
#include "base/clock.h"
#include "collection/frame.h"
#include "collection/pack.h"

namespace holdfast::backup {

/// What the specification asks for, or the default.
collection::Compression compression_of(const proto::BackupJobSpec& spec);
collection::BackupUuid new_uuid();
/// Since 1970, as manifests have it.
std::int64_t microseconds(Time time);
/// Below which the packs of a layer are.
std::string data_prefix(std::string_view directory);

/// The WAL archive of the backup's collection, made when there is none, with the backup's key and
/// object lock; a notice says when the one that is there locks otherwise. `environment` has
/// archives. Throws what WalArchives::ensure() throws.
jobs::JobId ensure_archive(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                           jobs::JobContext& job, const storage::ObjectStore& store,
                           WalArchiveMode mode, postgres::Lsn start);

}  // namespace holdfast::backup
