#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backup/wal_archive_job.h"
#include "backup/wal_holds.h"
#include "base/error.h"
#include "base/mutex.h"
#include "collection/encryption.h"
#include "jobs/registry.h"
#include "jobs/runner.h"

namespace holdfast::backup {

/// An archive's job looks every 200 ms, but what it puts just then may be slow.
inline constexpr std::chrono::seconds kArchivePatience{60};

/// "holdfast_<16 hex>", from the collection's URI without its secrets: the same for every spelling
/// of its credentials, so that changing them keeps the archive.
std::string archive_slot_name(std::string_view collection_uri);

/// The WAL archives of this daemon's instance: one job and one physical replication slot for each
/// collection. Thread-safe.
class WalArchives {
 public:
  WalArchives(jobs::Registry& registry, jobs::Runner& runner, WalArchiveEnvironment environment);

  struct Wanted {
    std::string collection_uri;
    WalArchiveMode mode = WalArchiveMode::Maps;
    /// From here on (on the server's present timeline) nothing may be missing; zero: from the
    /// moment of the call. Must be at or after the last checkpoint's redo point, or covered
    /// already.
    postgres::Lsn start{};
    /// For the job's row; secrets redacted.
    std::string description;
    std::string statement;
    std::string user_name;
    /// What the collection's WAL is encrypted with.
    std::optional<collection::CollectionKeys::Wal> key = std::nullopt;
    /// As in BackupJobSpec. An archive that is there already keeps its own.
    std::string object_lock = {};
    std::uint64_t retain_for_seconds = 0;
  };
  /// Makes the collection's archive if there is none, and raises it from Maps to Full. When it
  /// returns, the slot holds WAL back from `start` on and the job's row is durable. Throws
  /// kObjectNotInPrerequisiteState when PostgreSQL no longer has the WAL from `start` on.
  jobs::JobId ensure(const Wanted& wanted, const Stop& stop);

  /// Makes PostgreSQL keep WAL for the collection's archive from `hold.from` on, as far as it still
  /// has it, in the place of what the owner had held there. Bounded like all that it keeps: a hold
  /// that would need more is dropped, and so is one whose chain is deleted.
  void hold(std::string_view collection_uri, const WalHold& hold);
  void release_hold(std::string_view collection_uri, std::string_view owner);
  /// From the newest layer of a chain on, in the place of all that was held for the chain, or for
  /// another one by the same owner. A hold for a later layer of the chain stays.
  void hold_for_chain(std::string_view collection_uri, const WalHold& hold);
  /// Nothing more is held for the chain.
  void release_chain(std::string_view collection_uri, std::string_view full);

  /// Returns when the archive's job keeps all WAL (mode Full) from some moment before this call on.
  /// Throws kObjectNotInPrerequisiteState when it does not within `patience`, or ends.
  void wait_until_full(jobs::JobId job, std::chrono::seconds patience, const Stop& stop) const;
  /// Returns when the archive, of mode Full, holds all WAL of this timeline before `lsn`. Throws
  /// kObjectNotInPrerequisiteState when it ends, or stands still for `patience`.
  void wait_until_archived(jobs::JobId job, postgres::TimelineId timeline, postgres::Lsn lsn,
                           std::chrono::seconds patience, const Stop& stop) const;
  /// Makes the archive hold everything that was committed before the call, and a commit after it,
  /// which the server is asked for: an idle one says by nothing else that there was none. False
  /// when the collection's archive does not keep all WAL here, does not come to it within
  /// `patience`, or the server is a standby.
  bool catch_up(std::string_view collection_uri, std::chrono::seconds patience,
                const Stop& stop) const;
  /// Throws kObjectNotInPrerequisiteState when the collection has an archive that encrypts WAL
  /// otherwise than with `key` (absent: not at all).
  void require_same_key(std::string_view collection_uri,
                        const std::optional<collection::CollectionKeys::Wal>& key) const;

  /// Whether the collection's archive puts objects with this retention, or a longer one.
  bool retains(std::string_view collection_uri, std::string_view object_lock,
               std::uint64_t retain_for_seconds) const;

  /// The unfinished job of the collection's archive.
  std::optional<jobs::Job> find(std::string_view collection_uri) const;

  /// Ends the archive and drops its slot; what is stored stays. False when there is none.
  bool drop(std::string_view collection_uri, const Stop& stop);

  struct Listed {
    jobs::Job job;
    std::string collection_uri;  ///< with its secrets: print it redacted
    std::string slot;
    std::uint64_t system_identifier = 0;  ///< of the server whose WAL it is
    /// What the collection's WAL is encrypted with.
    std::optional<collection::CollectionKeys::Wal> key;
    std::optional<storage::ObjectLock> lock;  ///< that its objects are put with
    WalArchiveMode mode = WalArchiveMode::Maps;
    std::optional<WalArchiveState> state;  ///< absent when it does not run
    std::optional<Time> protected_since;   ///< when the slot last moved, or WAL has been held
  };
  /// The newest job of every collection, ended ones that gave up included.
  std::vector<Listed> list() const;

 private:
  WalHolds holds(std::string_view collection_uri) const;
  Error does_not_work(jobs::JobId job) const;

  jobs::Registry& registry_;
  jobs::Runner& runner_;
  WalArchiveEnvironment environment_;
  // One ensure() or drop() at a time: two jobs must not share a slot.
  Mutex changes_;
};

}  // namespace holdfast::backup
