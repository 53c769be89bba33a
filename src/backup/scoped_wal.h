#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backup/scope.h"
#include "base/stop.h"
#include "collection/wal_archive.h"
#include "manifest.pb.h"
#include "postgres/wal_filter.h"
#include "postgres/wal_scan.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// Where the WAL of a backup with a scope goes: a directory of the layer's own, so that nothing
/// of it mixes with the archive, whose WAL has all records.
struct ScopedWalRequest {
  storage::ObjectStore& store;
  std::filesystem::path spool;  ///< where the received segments are; room for one more
  std::string directory;        ///< in the collection; nothing is there yet
  std::uint64_t system_identifier = 0;
  std::uint32_t timeline = 0;
  collection::Compression compression;
  /// Of the timelines that the WAL is of.
  std::vector<std::pair<postgres::TimelineId, Bytes>> histories;
  /// From the backup's start, or an earlier one, to scoped_wal_end().
  postgres::WalFilterOptions filter{};
  /// The segments before this number are not in the spool but in the server's pg_wal, `server_wal`.
  std::uint64_t first_received = 0;
  std::string server_wal{};
};

/// Reads the WAL as it is, from where the request says that it lies.
postgres::WalInput scoped_wal_input(const ScopedWalRequest& request);

/// Up to where the WAL of a backup that stopped at `stop` is stored: one record more, because
/// recovery looks whether it is consistent before each record. (Where it stopped at the very end of
/// a segment, there may be none to come.)
postgres::Lsn scoped_wal_end(postgres::Lsn stop, std::uint64_t wal_segment_bytes);

/// Filters the segments, in which records outside the scope become ones that do nothing, and puts
/// them with the histories. Throws kObjectNotInPrerequisiteState, which another attempt may do
/// without, when the last record goes on in a segment that is not there; kUndefinedFile or
/// kDataCorrupted when the server has removed one of its own, or is doing so.
std::vector<collection::proto::WalSegment> store_scoped_wal(const ScopedWalRequest& request,
                                                            const postgres::WalScope& scope,
                                                            const Stop& stop);

/// What the WAL does to files of relations as such, in the databases of `scope`.
struct FileHistory {
  DatabaseFiles created;  ///< those whose content it makes from nothing
  DatabaseFiles dropped;  ///< those that a committed transaction removed
  /// Relations, by OID, that a commit from `listed_from` on redefined; none without it.
  std::set<std::pair<std::uint32_t, std::uint32_t>> redefined;
};
FileHistory read_file_history(const postgres::WalRange& range, const postgres::WalInput& input,
                              const postgres::WalScope& scope,
                              std::optional<postgres::Lsn> listed_from, const Stop& stop);

/// Relations' files in the databases of `scope` that come into being in the WAL. (One that it cuts
/// to nothing had content before.)
DatabaseFiles read_new_files(const postgres::WalRange& range, const postgres::WalInput& input,
                             const postgres::WalScope& scope, const Stop& stop);

}  // namespace holdfast::backup
