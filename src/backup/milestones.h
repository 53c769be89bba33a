#pragma once

#include <map>
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
  /// All, and what the environment points to, outlive it.
  Milestones(WalArchives& archives, const jobs::Registry& registry,
             WalArchiveEnvironment environment);

  struct Wanted {
    std::string name;  ///< 1 to kLongestMilestoneName bytes
    std::string database;
    std::string user;
    /// May move a milestone of this name that somebody else created, and see where archives are.
    bool administrator = false;
  };
  struct Created {
    collection::Milestone milestone;
    /// Collections that archive the WAL and cannot restore to the milestone.
    std::vector<std::string> without_backup;
    /// Those of which that is not known: all backups there that might are encrypted with keys that
    /// this daemon has not.
    std::vector<std::string> not_tried;
  };
  /// Makes a restore point and returns when every full WAL archive holds it. It is noted in each
  /// collection that can restore to it, which is tried out; of encrypted backups with the keys that
  /// this daemon's jobs have. Throws
  /// kObjectNotInPrerequisiteState when there is no such archive, one stands still, no collection
  /// can restore to it, or the server is a standby.
  Created create(const Wanted& wanted, const Stop& stop);

  struct Listed {
    collection::Milestone milestone;
    std::string collection_uri;  ///< as collection_name() gives it
  };
  /// Of all collections with a full WAL archive, ordered by collection and place.
  std::vector<Listed> list(bool administrator, const Stop& stop) const;

 private:
  struct Archive;
  enum class Leads;
  Leads can_restore(const Archive& archive, const collection::Milestone& milestone,
                    const Stop& stop) const;
  std::vector<Archive> full_archives(bool administrator) const;
  std::map<std::string, collection::CollectionKeys::Chain> keys_of(const std::string& uri) const;
  collection::Milestone make_restore_point(const Wanted& wanted, const Stop& stop) const;

  WalArchives& archives_;
  const jobs::Registry& registry_;
  WalArchiveEnvironment environment_;
};

/// What a user is told of where a collection is: its external connection, if it is behind one; else
/// `description`, without secrets, for an administrator, and for others the kind of storage alone.
std::string collection_name(const std::string& uri, const std::string& description,
                            bool administrator);

/// Source: PostgreSQL src/include/access/xlog_internal.h (MAXFNAMELEN, with its final zero).
inline constexpr std::size_t kLongestMilestoneName = 63;

}  // namespace holdfast::backup
