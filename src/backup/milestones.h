#pragma once

#include <string>
#include <vector>

#include "backup/wal_archives.h"
#include "base/stop.h"
#include "collection/milestone.h"

namespace holdfast::backup {

/// The milestones of this daemon's instance, in the collections that have a WAL archive of it.
/// Thread-safe.
class Milestones {
 public:
  /// `archives` and what the environment points to outlive it.
  Milestones(WalArchives& archives, WalArchiveEnvironment environment);

  struct Wanted {
    std::string name;  ///< 1 to kLongestMilestoneName bytes
    std::string database;
    std::string user;
    bool may_move_others = false;  ///< a milestone of this name that somebody else created
  };
  struct Created {
    collection::Milestone milestone;
    /// Collections, without secrets, that archive the WAL and cannot restore to the milestone.
    std::vector<std::string> without_backup;
  };
  /// Makes a restore point and returns when every full WAL archive holds it. It is noted in each
  /// collection that can restore to it, which is tried out (in an encrypted collection, to whose
  /// backups the daemon has no key, a finished full is taken for enough). Throws
  /// kObjectNotInPrerequisiteState when there is no such archive, one stands still, no collection
  /// can restore to it, or the server is a standby.
  Created create(const Wanted& wanted, const Stop& stop);

  struct Listed {
    collection::Milestone milestone;
    std::string collection_uri;  ///< without secrets
  };
  /// Of all collections with a full WAL archive, ordered by collection and place.
  std::vector<Listed> list(const Stop& stop) const;

 private:
  struct Archive;
  std::vector<Archive> full_archives() const;
  collection::Milestone make_restore_point(const Wanted& wanted, const Stop& stop) const;

  WalArchives& archives_;
  WalArchiveEnvironment environment_;
};

/// Source: PostgreSQL src/include/access/xlog_internal.h (MAXFNAMELEN, with its final zero).
inline constexpr std::size_t kLongestMilestoneName = 63;

}  // namespace holdfast::backup
