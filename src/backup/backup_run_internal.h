#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "backup/backup_job.h"
#include "backup/copy.h"
#include "backup/wal_archives.h"
#include "backup_job.pb.h"
#include "base/clock.h"
#include "collection/frame.h"
#include "collection/pack.h"
#include "manifest.pb.h"
#include "postgres/catalog.h"
#include "postgres/connection.h"
#include "postgres/wal_scan.h"

namespace holdfast::backup {

/// What the specification asks for, or the default.
collection::Compression compression_of(const proto::BackupJobSpec& spec);
collection::BackupUuid new_uuid();
/// Since 1970, as manifests have it.
std::int64_t microseconds(Time time);
/// The number in ".../data/17.pack"; absent for any other key.
std::optional<std::uint32_t> pack_number(std::string_view key);
/// Below which the packs of a layer are.
std::string data_prefix(std::string_view directory);

/// The store of the job's collection, without its keys.
std::unique_ptr<storage::ObjectStore> open_collection(const BackupEnvironment& environment,
                                                      const proto::BackupJobSpec& spec);

/// Takes the lock of the job's layer. An incremental one's place is where it goes afterwards: the
/// chain is tied to it, unless the layer cannot belong to the chain. Throws when another job has
/// the layer, the chain is being deleted, or it has layers that `store` does not show. `store` is
/// open_collection()'s, with the job's keys.
void take_layer_lock(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                     jobs::JobId job, storage::ObjectStore& store, const Stop& stop);

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

/// For revision history: all WAL from now on is archived, when this returns. Throws
/// kObjectNotInPrerequisiteState where no archive can be kept.
void keep_history(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                  jobs::JobContext& job, const storage::ObjectStore& store);

/// What PostgreSQL keeps for the next layer of a chain of databases or tables: for a backup with
/// revision history that wrote `manifest`, all WAL from its start on; for another one nothing.
void hand_over_hold(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                    jobs::JobId job, const collection::proto::Manifest& manifest);
/// Of a backup that ends without one: as before it.
void release_hold(const BackupEnvironment& environment, const proto::BackupJobSpec& spec,
                  jobs::JobId job);

/// As manifests have it.
collection::proto::CatalogObject to_proto(const postgres::CatalogEntry& entry);

/// Stores the content of the control file, the file at `position`, in a pack of its own.
void store_control_file(const LayerPlace& place, const collection::Compression& compression,
                        std::size_t position, ByteView content, CopyState& copy, const Stop& stop);

/// Writes what was copied into the manifest: directories, files, packs, sizes.
void describe_copy(CopyState& copy, collection::proto::Manifest& manifest);

/// Decides whether pages with wrong checksums were torn or are corrupt.
struct SuspectPages {
  std::set<postgres::BlockKey> pages;
  const postgres::WalRange& range;  ///< the backup's WAL
  const postgres::WalInput& input;
  std::string_view tablespace_version_directory;
  /// How to reach a server that knows the relations' names.
  std::function<postgres::ConnectOptions()> connect;
  bool allow_corrupt = false;
};
/// Notes corrupt pages in the manifest and in a notice, or throws kDataCorrupted with their names.
void judge_suspects(const SuspectPages& suspects, jobs::JobContext& job,
                    collection::proto::Manifest& manifest);

}  // namespace holdfast::backup
