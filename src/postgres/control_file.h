#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/bytes.h"
#include "base/clock.h"
#include "postgres/lsn.h"

namespace holdfast::postgres {

/// Path of the control file relative to the data directory.
inline constexpr std::string_view kControlFilePath = "global/pg_control";
/// Its size on disk; the structure fills less than one sector of it, the rest is zero.
/// Source: PostgreSQL src/include/catalog/pg_control.h (PG_CONTROL_FILE_SIZE).
inline constexpr std::size_t kControlFileBytes = 8192;

/// Source: PostgreSQL src/include/catalog/pg_control.h (DBState).
enum class ClusterState : std::uint32_t {
  StartUp = 0,
  ShutDown = 1,
  ShutDownInRecovery = 2,
  ShuttingDown = 3,
  InCrashRecovery = 4,
  InArchiveRecovery = 5,
  InProduction = 6
};

/// As pg_controldata prints it: "in production".
std::string_view to_string(ClusterState state);

/// Source: PostgreSQL src/include/access/xlog.h (WalLevel).
enum class WalLevel : std::int32_t { Minimal = 0, Replica = 1, Logical = 2 };

/// What global/pg_control says.
struct ControlFile {
  int major = 0;  ///< 13 to 18, from control and catalog version
  std::uint64_t system_identifier = 0;
  std::uint32_t control_version = 0;
  std::uint32_t catalog_version = 0;
  ClusterState state = ClusterState::StartUp;
  Time last_modified;
  Lsn checkpoint;           ///< the last checkpoint record
  Lsn redo;                 ///< where recovery from that checkpoint starts
  TimelineId timeline = 0;  ///< of that checkpoint
  TimelineId previous_timeline = 0;
  bool full_page_writes = false;
  std::uint64_t next_xid = 0;  ///< with epoch
  Time checkpoint_time;
  Lsn min_recovery_point;
  TimelineId min_recovery_timeline = 0;
  Lsn backup_start_point;
  Lsn backup_end_point;
  bool backup_end_required = false;
  WalLevel wal_level = WalLevel::Minimal;
  bool wal_log_hints = false;
  // What a server that recovers from here needs at least.
  std::int32_t max_connections = 0;
  std::int32_t max_worker_processes = 0;
  std::int32_t max_wal_senders = 0;
  std::int32_t max_prepared_transactions = 0;
  std::int32_t max_locks_per_transaction = 0;
  bool track_commit_timestamp = false;
  std::uint32_t block_bytes = 0;
  std::uint32_t relation_segment_blocks = 0;
  std::uint32_t wal_block_bytes = 0;
  std::uint32_t wal_segment_bytes = 0;
  std::uint32_t data_checksum_version = 0;  ///< 0: page checksums are off

  bool has_page_checksums() const { return data_checksum_version != 0; }
};

/// Checks and reads the bytes of a control file; `file_name` is for messages. Throws kDataCorrupted
/// when it is too short, its CRC is wrong or a value is impossible; kFeatureNotSupported for an
/// unknown version or a block size other than 8192.
ControlFile parse_control_file(ByteView bytes, std::string_view file_name);

/// Reads global/pg_control below `data_directory`. A server may be writing it: a wrong CRC is read
/// again a few times. Throws as parse_control_file, and kUndefinedFile when there is none.
ControlFile read_control_file(const std::filesystem::path& data_directory);

}  // namespace holdfast::postgres
