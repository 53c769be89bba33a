#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/stop.h"
#include "io/file_system.h"
#include "jobs/job.h"
#include "restore_job.pb.h"
#include "storage/object_store.h"
#include "storage/store_access.h"

namespace holdfast::restore {

/// The daemon's own PostgreSQL, as far as a restore needs it. The daemon implements it over
/// postgres/; tests over nothing.
class TargetInstance {
 public:
  virtual ~TargetInstance() = default;
  /// Absolute; it need not exist.
  virtual std::string data_directory() const = 0;
  /// The major version of the server binaries: 15.
  virtual int binaries_major_version() = 0;
  /// Whether a postmaster runs on data_directory().
  virtual bool running() = 0;
  /// Returns when the server is down (fast shutdown). Fine when it is down already.
  virtual void stop(const Stop& stop) = 0;
  /// Starts the server and returns when that succeeded; recovery may still be running. Throws with
  /// the end of the server's log in the detail.
  virtual void start(const Stop& stop) = 0;
  /// Waits until recovery has ended and the server takes sessions. Throws kCannotConnectNow after
  /// `timeout`, or as soon as the server is gone, with the end of its log in the detail. Returns
  /// why holdfast itself cannot log in to the server, which runs and may be in use all the same;
  /// absent: it can.
  virtual std::optional<std::string> wait_ready(std::chrono::milliseconds timeout,
                                                const Stop& stop) = 0;
  /// The databases and tables that users made in the running server (user_objects.h), "bank",
  /// "postgres.public.accounts". Throws kCannotConnectNow when it does not answer.
  virtual std::vector<std::string> user_objects(const Stop& stop) = 0;
};

/// What a RestoreJob needs from the daemon. Everything outlives the job.
struct RestoreServices {
  /// Opens the store that a collection URI names.
  std::function<std::unique_ptr<storage::ObjectStore>(
      const std::string& uri, const storage::StoreAccess& access, const Stop& stop)>
      open_store;
  TargetInstance* instance = nullptr;
  /// Whether a job with this number has not ended: it is at work, or may go on. Not one that nobody
  /// knows.
  std::function<bool(jobs::JobId)> is_unfinished;
  const Clock* clock = &Clock::system();
  /// How long the restored server may take until it accepts queries.
  std::chrono::milliseconds start_timeout = std::chrono::hours(24);
  io::FileSystem* files = &io::FileSystem::real();
};

/// Restores a full backup of a cluster, see the module's README.md. specification() is a
/// proto::RestoreJobSpec, checkpoint() a proto::RestoreCheckpoint.
///
/// With data_directory: lays the cluster out there, ready for PostgreSQL to be started on it, and
/// touches nothing else. Without: builds it beside the live directory, then stops PostgreSQL, moves
/// the live directory aside (it is kept), puts the new one in its place and starts PostgreSQL.
///
/// Pause points: restore.after_checks, restore.after_create, restore.copy (once per pack),
/// restore.after_copy, restore.after_recovery_files, restore.after_sync, restore.after_control,
/// restore.before_stop, restore.after_stop, restore.after_move_aside, restore.after_move_in,
/// restore.after_start, restore.after_ready.
class RestoreJob final : public jobs::JobBody {
 public:
  explicit RestoreJob(RestoreServices services) : services_(std::move(services)) {}

  void resume(jobs::JobContext& job) override;
  void revert(jobs::JobContext& job) override;

 private:
  RestoreServices services_;
};

}  // namespace holdfast::restore
