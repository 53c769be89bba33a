#pragma once

#include <cstdint>
#include <memory>
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

/// The store of the job's collection, without its keys.
std::unique_ptr<storage::ObjectStore> open_collection(const BackupEnvironment& environment,
                                                      const proto::BackupJobSpec& spec);

/// For a job that has its lock: throws when the chain that it adds a layer to is being deleted, or
/// has layers that `store` does not show.
void require_continuable(storage::ObjectStore& store, const std::string& full, const Stop& stop);

/// Says when the collection has a WAL archive whose objects are not locked as the backup's are: the
/// backup's own WAL may be among them.
void notice_other_lock(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                       jobs::JobContext& job);

/// The WAL archive of the backup's collection, made when there is none, with the backup's key and
/// object lock; a notice says when the one that is there locks otherwise. `environment` has
/// archives. Throws what WalArchives::ensure() throws.
jobs::JobId ensure_archive(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                           jobs::JobContext& job, const storage::ObjectStore& store,
                           WalArchiveMode mode, postgres::Lsn start);

}  // namespace holdfast::backup
