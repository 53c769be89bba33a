#include "postgres/control_file.h"

#include <fmt/core.h>

#include <chrono>
#include <thread>

#include "base/error.h"
#include "postgres/crc32c.h"
#include "postgres/file_bytes.h"
#include "postgres/page.h"
#include "postgres/versions.h"

namespace holdfast::postgres {
namespace {

// Offsets in ControlFileData on 64-bit machines. From 13 to 18 fields were only added where padding
// was (CheckPoint.wal_level, 17) or before the nonce (default_char_signedness, 18).
// Source: PostgreSQL REL_13 to REL_18, src/include/catalog/pg_control.h.
constexpr std::size_t kSystemIdentifier = 0;
constexpr std::size_t kControlVersion = 8;
constexpr std::size_t kCatalogVersion = 12;
constexpr std::size_t kState = 16;
constexpr std::size_t kTime = 24;
constexpr std::size_t kCheckpoint = 32;
constexpr std::size_t kRedo = 40;
constexpr std::size_t kTimeline = 48;
constexpr std::size_t kPreviousTimeline = 52;
constexpr std::size_t kFullPageWrites = 56;
constexpr std::size_t kNextXid = 64;
constexpr std::size_t kCheckpointTime = 104;
constexpr std::size_t kMinRecoveryPoint = 136;
constexpr std::size_t kMinRecoveryTimeline = 144;
constexpr std::size_t kBackupStartPoint = 152;
constexpr std::size_t kBackupEndPoint = 160;
constexpr std::size_t kBackupEndRequired = 168;
constexpr std::size_t kWalLevel = 172;
constexpr std::size_t kWalLogHints = 176;
constexpr std::size_t kMaxConnections = 180;
constexpr std::size_t kMaxWorkerProcesses = 184;
constexpr std::size_t kMaxWalSenders = 188;
constexpr std::size_t kMaxPreparedTransactions = 192;
constexpr std::size_t kMaxLocksPerTransaction = 196;
constexpr std::size_t kTrackCommitTimestamp = 200;
constexpr std::size_t kBlockBytes = 216;
constexpr std::size_t kRelationSegment = 220;
constexpr std::size_t kWalBlockBytes = 224;
constexpr std::size_t kWalSegmentBytes = 228;
constexpr std::size_t kDataChecksumVersion = 252;
constexpr std::size_t kCrcBefore18 = 288;
constexpr std::size_t kCrcFrom18 = 292;

constexpr int kReadAttempts = 10;
constexpr std::chrono::milliseconds kReadPause{10};

std::size_t crc_offset(std::uint32_t control_version) {
  return control_version >= 1800 ? kCrcFrom18 : kCrcBefore18;
}

Error corrupt(std::string_view file_name, std::string detail) {
  return Error(sqlstate::kDataCorrupted, fmt::format("control file \"{}\" is corrupt", file_name))
      .detail(std::move(detail));
}

Time from_unix(std::int64_t seconds) { return Time(std::chrono::seconds(seconds)); }

bool flag(ByteView bytes, std::size_t offset) { return bytes[offset] != std::byte{0}; }

}  // namespace

std::string_view to_string(ClusterState state) {
  switch (state) {
    case ClusterState::StartUp:
      return "starting up";
    case ClusterState::ShutDown:
      return "shut down";
    case ClusterState::ShutDownInRecovery:
      return "shut down in recovery";
    case ClusterState::ShuttingDown:
      return "shutting down";
    case ClusterState::InCrashRecovery:
      return "in crash recovery";
    case ClusterState::InArchiveRecovery:
      return "in archive recovery";
    case ClusterState::InProduction:
      return "in production";
  }
  return "unrecognized status code";
}

ControlFile parse_control_file(ByteView bytes, std::string_view file_name) {
  if (bytes.size() < kCrcFrom18 + sizeof(std::uint32_t)) {
    throw corrupt(file_name, fmt::format("It has only {} bytes.", bytes.size()));
  }
  ControlFile control;
  control.control_version = load<std::uint32_t>(bytes, kControlVersion);
  control.catalog_version = load<std::uint32_t>(bytes, kCatalogVersion);
  const auto* facts = find_version_by_control(control.control_version, control.catalog_version);
  // The CRC comes first where its place is known: a flipped bit in the version is corruption.
  const std::size_t crc_at = crc_offset(control.control_version);
  if (crc32c(bytes.first(crc_at)) != load<std::uint32_t>(bytes, crc_at)) {
    throw corrupt(file_name, "Its checksum does not match its content.");
  }
  if (facts == nullptr) {
    throw Error(
        sqlstate::kFeatureNotSupported,
        fmt::format("control file \"{}\" is of an unsupported PostgreSQL version", file_name))
        .detail(fmt::format("Its version is {}, its catalog version {}; this build of holdfast "
                            "knows those of PostgreSQL {} to {}.",
                            control.control_version, control.catalog_version, kOldestMajor,
                            kNewestMajor));
  }
  control.major = facts->major;
  control.system_identifier = load<std::uint64_t>(bytes, kSystemIdentifier);
  const auto state = load<std::uint32_t>(bytes, kState);
  if (state > static_cast<std::uint32_t>(ClusterState::InProduction)) {
    throw corrupt(file_name, fmt::format("Its state {} is unknown.", state));
  }
  control.state = static_cast<ClusterState>(state);
  control.last_modified = from_unix(load<std::int64_t>(bytes, kTime));
  control.checkpoint = Lsn{load<std::uint64_t>(bytes, kCheckpoint)};
  control.redo = Lsn{load<std::uint64_t>(bytes, kRedo)};
  control.timeline = load<std::uint32_t>(bytes, kTimeline);
  control.previous_timeline = load<std::uint32_t>(bytes, kPreviousTimeline);
  control.full_page_writes = flag(bytes, kFullPageWrites);
  control.next_xid = load<std::uint64_t>(bytes, kNextXid);
  control.checkpoint_time = from_unix(load<std::int64_t>(bytes, kCheckpointTime));
  control.min_recovery_point = Lsn{load<std::uint64_t>(bytes, kMinRecoveryPoint)};
  control.min_recovery_timeline = load<std::uint32_t>(bytes, kMinRecoveryTimeline);
  control.backup_start_point = Lsn{load<std::uint64_t>(bytes, kBackupStartPoint)};
  control.backup_end_point = Lsn{load<std::uint64_t>(bytes, kBackupEndPoint)};
  control.backup_end_required = flag(bytes, kBackupEndRequired);
  control.wal_level = static_cast<WalLevel>(load<std::int32_t>(bytes, kWalLevel));
  control.wal_log_hints = flag(bytes, kWalLogHints);
  control.max_connections = load<std::int32_t>(bytes, kMaxConnections);
  control.max_worker_processes = load<std::int32_t>(bytes, kMaxWorkerProcesses);
  control.max_wal_senders = load<std::int32_t>(bytes, kMaxWalSenders);
  control.max_prepared_transactions = load<std::int32_t>(bytes, kMaxPreparedTransactions);
  control.max_locks_per_transaction = load<std::int32_t>(bytes, kMaxLocksPerTransaction);
  control.track_commit_timestamp = flag(bytes, kTrackCommitTimestamp);
  control.block_bytes = load<std::uint32_t>(bytes, kBlockBytes);
  control.relation_segment_blocks = load<std::uint32_t>(bytes, kRelationSegment);
  control.wal_block_bytes = load<std::uint32_t>(bytes, kWalBlockBytes);
  control.wal_segment_bytes = load<std::uint32_t>(bytes, kWalSegmentBytes);
  control.data_checksum_version = load<std::uint32_t>(bytes, kDataChecksumVersion);
  if (!valid_wal_segment_bytes(control.wal_segment_bytes)) {
    throw corrupt(file_name,
                  fmt::format("Its WAL segment size {} is impossible.", control.wal_segment_bytes));
  }
  if (control.block_bytes != kPageBytes || control.wal_block_bytes != kPageBytes ||
      control.relation_segment_blocks != kRelationSegmentBlocks) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("control file \"{}\" is of a PostgreSQL with other block sizes than "
                            "the default",
                            file_name))
        .detail(fmt::format("Block size {}, WAL block size {}, blocks per relation segment {}.",
                            control.block_bytes, control.wal_block_bytes,
                            control.relation_segment_blocks));
  }
  return control;
}

ControlFile read_control_file(const std::filesystem::path& data_directory) {
  const auto path = data_directory / kControlFilePath;
  // A server overwrites the file in place and readers take no lock, so one wrong checksum may be a
  // write under way. Source: PostgreSQL src/common/controldata_utils.c (get_controlfile retries).
  for (int attempt = 1;; ++attempt) {
    const auto content = read_small_file(path, kControlFileBytes);
    if (!content) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("control file \"{}\" does not exist", path.string()))
          .hint("Give the data directory of a PostgreSQL instance.");
    }
    try {
      return parse_control_file(as_bytes(*content), path.string());
    } catch (const Error& error) {
      if (error.state() != sqlstate::kDataCorrupted || attempt == kReadAttempts) throw;
    }
    std::this_thread::sleep_for(kReadPause);
  }
}

}  // namespace holdfast::postgres
