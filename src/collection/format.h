#pragma once

#include <cstdint>
#include <string_view>

/// Every name, magic number, version and size of holdfast's own format. docs/formats/ gives the
/// bytes and the reasons.
namespace holdfast::collection {

/// The newest version that this build writes and reads; anything newer is refused.
inline constexpr std::uint32_t kFormatVersion = 3;
/// What needs nothing newer is written so that older builds go on reading it: manifests of full
/// backups, and packs in which every frame is whole.
inline constexpr std::uint32_t kPlainFormatVersion = 1;
/// Manifests of incremental layers, and packs with frames of which only some blocks are there.
inline constexpr std::uint32_t kChainFormatVersion = 2;
/// Manifests of layers that do not hold the whole cluster: an older build would take them for one
/// that does, and look for their WAL in the archive.
inline constexpr std::uint32_t kScopedFormatVersion = 3;
/// Manifests with a recovery target: who does not know it would restore another moment.
inline constexpr std::uint32_t kRecoveryTargetFormatVersion = 3;

inline constexpr std::string_view kManifestName = "BACKUP_MANIFEST";
inline constexpr std::string_view kCheckpointPrefix = "BACKUP-CHECKPOINT-";
inline constexpr std::string_view kLockPrefix = "BACKUP-LOCK-";
inline constexpr std::string_view kEncryptionInfoName = "ENCRYPTION-INFO";
/// In a full's directory, when its incremental layers are in another place, and in that place.
inline constexpr std::string_view kIncrementalLocationName = "INCREMENTAL-LOCATION";
inline constexpr std::string_view kFullLocationName = "FULL-LOCATION";
inline constexpr std::string_view kDeletionDirectory = "deleting";  // of deletion marks
inline constexpr std::string_view kDeletionPrefix = "BACKUP-DELETING-";
inline constexpr std::string_view kRetentionDirectory = "metadata/retention";
inline constexpr std::string_view kRetentionLockPrefix = "RETENTION-LOCK-";
/// Beside a mark or lock that the storage does not let go: it counts no more.
inline constexpr std::string_view kWithdrawnSuffix = ".withdrawn";
inline constexpr std::string_view kLatestDirectory = "metadata/latest";
inline constexpr std::string_view kLatestPrefix = "LATEST-";
inline constexpr std::string_view kIncrementalsDirectory = "incrementals";
inline constexpr std::string_view kWalDirectory = "wal";
inline constexpr std::string_view kWalArchiveMark = "ARCHIVE";
inline constexpr std::string_view kMilestoneDirectory = "milestones";  // of a server's WAL
inline constexpr std::string_view kMilestoneSuffix = ".milestone";
inline constexpr std::string_view kDataDirectory = "data";
inline constexpr std::string_view kProgressDirectory = "progress";  // of checkpoints
inline constexpr std::string_view kPackSuffix = ".pack";
inline constexpr std::string_view kWalSuffix = ".wal";
inline constexpr std::string_view kHistorySuffix = ".history";
inline constexpr std::string_view kBlockMapSuffix = ".blocks";
inline constexpr std::string_view kWalTailSuffix = ".partial";
inline constexpr std::string_view kWalTimeSuffix = ".time";

/// A frame is this much of one file (128 pages of 8 KiB): the unit of compression, checksum and
/// random access. The last frame of a file is shorter.
inline constexpr std::uint32_t kFrameBytes = 1U << 20;
/// Blocks of 8 KiB in a frame: as many bits has the bitmap of a partial frame.
inline constexpr std::size_t kFrameBlocks = 128;
inline constexpr std::uint32_t kBlockBytes = kFrameBytes / kFrameBlocks;
/// A pack is put when the next frame would take it past this. 32 MiB keeps the memory of two
/// workers and two uploads small.
inline constexpr std::uint64_t kPackTargetBytes = 32ULL << 20;

/// A pack holds no more frames than this, all-zero ones (which take no room) included.
inline constexpr std::uint32_t kMaxPackFrames = 65536;
/// Manifests, checkpoints and block maps, unpacked: that of a cluster with a million files takes
/// about a fifth of it.
inline constexpr std::uint64_t kMaxManifestBytes = 512ULL << 20;
/// Up to this one may be of any number of stored bytes, and several are unpacked at once.
inline constexpr std::uint64_t kSmallManifestBytes = 32ULL << 20;
/// A larger one unpacks to at most this many times its stored bytes.
inline constexpr std::uint64_t kHighestManifestRatio = 1024;
/// What the message may take in memory: a short entry takes many times its bytes.
inline constexpr std::uint64_t kMaxManifestMemory = 1536ULL << 20;
/// A WAL segment is cut into objects of at most this much; the default of 16 MiB is one object.
inline constexpr std::uint64_t kWalPartBytes = 64ULL << 20;

/// INCREMENTAL-LOCATION, whose text is the description of a place.
inline constexpr std::uint64_t kMaxIncrementalLocationBytes = 16ULL << 10;

/// A milestone, whose texts are three names of at most 63 bytes.
inline constexpr std::uint64_t kMaxMilestoneBytes = 16ULL << 10;

/// ENCRYPTION-INFO. Each ADD NEW_KMS makes one more, so that this many are far beyond use.
inline constexpr std::uint32_t kEncryptionInfoVersion = 1;
/// Of a chain that has no part in its server's WAL.
inline constexpr std::uint32_t kEncryptionInfoWithoutWal = 2;
inline constexpr std::uint64_t kMaxEncryptionInfoBytes = 1ULL << 20;
inline constexpr unsigned kMaxEncryptionInfos = 1000;

inline constexpr std::uint32_t kPackHeaderBytes = 32;
inline constexpr std::uint32_t kPackEntryBytes = 64;
inline constexpr std::uint32_t kPackTrailerBytes = 72;
inline constexpr std::uint32_t kEnvelopeHeaderBytes = 48;

inline constexpr std::string_view kPackMagic = "HFPACK\r\n";      // 8 bytes, at the start
inline constexpr std::string_view kPackEndMagic = "HFPKEND\n";    // 8 bytes, at the very end
inline constexpr std::string_view kEnvelopeMagic = "HFMETA\r\n";  // manifests, checkpoints, maps

/// Inside its envelope, a block map begins with these and its version: 1 has no record chain.
inline constexpr std::string_view kBlockMapMagic = "HFBM";
inline constexpr std::uint32_t kBlockMapVersion = 2;
inline constexpr std::uint32_t kPlainBlockMapVersion = 1;

}  // namespace holdfast::collection
