#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/stop.h"
#include "collection/pack.h"
#include "manifest.pb.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// Keys of one layer's objects. `directory` is "2026/11/20-223000.00" for a full.
storage::ObjectKey manifest_key(std::string_view directory);
storage::ObjectKey pack_key(std::string_view directory, std::uint32_t number);
/// BACKUP-LOCK-<job id>
storage::ObjectKey lock_key(std::string_view directory, std::int64_t job_id);
/// "wal/<system identifier>/<8 hex timeline>/<24 hex segment name>.wal"
storage::ObjectKey wal_key(std::uint64_t system_identifier, std::uint32_t timeline,
                           std::uint64_t segment, std::uint64_t wal_segment_bytes);

/// "2026/11/20-223000.00" for a moment, in UTC with centiseconds, and back (absent when malformed).
/// A leading "/" is accepted.
std::string subdirectory_for(Time time);
std::optional<Time> parse_subdirectory(std::string_view text);

/// The directories of fulls, finished or not, oldest first.
std::vector<std::string> list_full_directories(storage::ObjectStore& store, const Stop& stop);
/// The subdirectories of the finished full backups, oldest first.
std::vector<std::string> list_fulls(storage::ObjectStore& store, const Stop& stop);
/// The newest full. Throws kUndefinedFile "path does not contain a completed latest backup";
/// kDataCorrupted "malformed LATEST file" naming the object.
std::string resolve_latest(storage::ObjectStore& store, const Stop& stop);
/// Points LATEST at `subdirectory`: a new object that sorts before all earlier ones.
void write_latest(storage::ObjectStore& store, std::string_view subdirectory, Time now,
                  const Stop& stop);

/// Absent when there is none. Throws kDataCorrupted, or kFeatureNotSupported for a newer format
/// version.
std::optional<proto::Manifest> read_manifest(storage::ObjectStore& store,
                                             std::string_view directory, const Stop& stop);
/// PutMode::OnlyIfAbsent: an existing manifest is an error ("… already contains a BACKUP_MANIFEST
/// file"). A put that is broken off may still take effect when nobody expects it any more: so a
/// stop does so only when it is ten seconds old.
void write_manifest(storage::ObjectStore& store, std::string_view directory,
                    const proto::Manifest& manifest, const Stop& stop);

/// Takes BACKUP-LOCK-<job id> in `directory`. Having it already is fine (a resumed job). Throws the
/// reference's errors when another job has it ("… already contains a `BACKUP-LOCK` file written by
/// job …") or a manifest is there.
void take_lock(storage::ObjectStore& store, std::string_view directory, std::int64_t job_id,
               const Stop& stop);
void release_lock(storage::ObjectStore& store, std::string_view directory, std::int64_t job_id,
                  const Stop& stop);

/// For the job that has taken it, before it writes its manifest: throws
/// kObjectNotInPrerequisiteState when the lock is gone, because then somebody has taken the job for
/// dead, and may have removed what it put.
void require_lock(storage::ObjectStore& store, std::string_view directory, std::int64_t job_id,
                  const Stop& stop);

/// The signs of life in a directory without a manifest.
struct LayerActivity {
  std::vector<std::int64_t> jobs;           ///< that have a lock there
  std::optional<Time> newest_checkpoint{};  ///< when it was written
};
LayerActivity look_at_unfinished(storage::ObjectStore& store, std::string_view directory,
                                 const Stop& stop);

/// The progress of an unfinished backup; a partial manifest. write_checkpoint adds a newer object
/// and removes older ones. `sequence` is the time in microseconds since 1970, or more when an older
/// one says so.
void write_checkpoint(storage::ObjectStore& store, std::string_view directory,
                      const proto::Manifest& partial, std::uint64_t sequence, const Stop& stop);
std::optional<proto::Manifest> read_checkpoint(storage::ObjectStore& store,
                                               std::string_view directory, const Stop& stop);
void remove_checkpoints(storage::ObjectStore& store, std::string_view directory, const Stop& stop);

/// Removes every object of an unfinished layer. Refuses (kObjectNotInPrerequisiteState) when a
/// manifest is there; one that appears meanwhile is removed too.
void remove_unfinished(storage::ObjectStore& store, std::string_view directory, const Stop& stop);

PackSummary summary_of(const proto::Pack& pack);
void store_summary(const PackSummary& summary, proto::Pack& pack);

/// What check_files found wrong. Checks every object that the manifests of a chain (oldest first; a
/// full alone is one) name: present, of the recorded size, index intact; that for each layer the
/// packs of it and of those before together hold every block of every file, a layer each frame
/// once; and that no WAL between start and stop is left out.
struct FileProblem {
  storage::ObjectKey key;
  std::string problem;
};
std::vector<FileProblem> check_files(storage::ObjectStore& store,
                                     std::span<const proto::Manifest> chain, const Stop& stop);
/// check_files, and unpacks every frame that is not superseded, every header and all WAL, and
/// compares their checksums. At most `workers` threads.
std::vector<FileProblem> verify_data(storage::ObjectStore& store,
                                     std::span<const proto::Manifest> chain, std::size_t workers,
                                     const Stop& stop);

/// The manifest as one JSON object, fields named as in manifest.proto. As in protobuf's own
/// mapping, 64-bit numbers are strings and fields that are not set are left out; text is printed as
/// text (what is not UTF-8 in it as U+FFFD), identifiers and checksums as hexadecimal digits.
std::string manifest_to_json(const proto::Manifest& manifest);

}  // namespace holdfast::collection
