#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/stop.h"
#include "collection/recovery_target.h"
#include "jobs/job.h"
#include "manifest.pb.h"
#include "postgres/connection.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// The whole cluster as it was at a moment: laid out of a backup on this machine, recovered to the
/// moment, and shut down there without ever having been promoted. Out of everybody's reach, and
/// gone with the object.
class PastCluster {
 public:
  virtual ~PastCluster() = default;

  /// The layer that it was laid out of, with all WAL up to the moment in its list of WAL, and those
  /// tablespaces in its list that this WAL makes.
  virtual const collection::proto::Manifest& origin() const = 0;
  /// Nothing in it changes before start(). Its control file is of the state "shut down in
  /// recovery"; its tablespaces lie elsewhere than the origin's, some of them in pg_tblspc itself.
  virtual std::filesystem::path data_directory() const = 0;
  /// Below which the configuration files from outside the data directory are, under the absolute
  /// paths that they had.
  virtual std::filesystem::path outside_directory() const = 0;
  /// Recovers it once more, as a restore of `layer`, a backup of it, does, and lets it go on from
  /// there, for questions about it: throws when it ends elsewhere than the layer. Returns how to
  /// reach it; the database is one that takes connections.
  virtual postgres::ConnectOptions start(const collection::proto::Manifest& layer,
                                         const Stop& stop) = 0;
};

struct PastClusterRequest {
  jobs::JobId job;
  storage::ObjectStore& store;  ///< the collection, with the keys of the layer; outlives the result
  std::string layer;            ///< directory
  /// Absent: the layer's own end.
  std::optional<collection::RecoveryTarget> target;
  std::size_t workers = 1;
  std::function<void(std::string phase)> report;
};

/// Makes them; the daemon's are workshops.
class PastClusters {
 public:
  virtual ~PastClusters() = default;
  /// Throws kDiskFull when there is no room, kUndefinedFile when something of the backup or
  /// PostgreSQL's programs of its version are missing, kFeatureNotSupported for a moment that
  /// cannot be recovered here, kDataCorrupted, Stopped. May be called from any thread.
  virtual std::unique_ptr<PastCluster> recover(const PastClusterRequest& request,
                                               const Stop& stop) = 0;
  /// Ends and removes what an earlier process left of the job's; fine when there is none.
  virtual void remove(jobs::JobId job) = 0;
};

}  // namespace holdfast::backup
