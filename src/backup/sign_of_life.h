#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/stop.h"
#include "jobs/job.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// Tells whoever looks for what backups left behind, also another daemon, that a job works in a
/// layer's directory: by checkpoints without content, for a backup that begins anew at each
/// attempt. The directory's name tells nothing where that is a moment long ago. All that is passed
/// in outlives it.
class SignOfLife {
 public:
  SignOfLife(storage::ObjectStore& store, std::string directory, jobs::JobId job,
             const Clock& clock, const Stop& stop)
      : store_(store), directory_(std::move(directory)), job_(job), clock_(clock), stop_(stop) {}

  /// For the job that has the directory's lock. Throws what the store throws.
  void begin();
  /// Once more, when the last is minutes ago; nothing before begin(). May be called from any
  /// thread, and throws what the store throws.
  void renew();
  /// Removes all that are there.
  void end();

 private:
  void write();

  storage::ObjectStore& store_;
  const std::string directory_;
  const jobs::JobId job_;
  const Clock& clock_;
  const Stop& stop_;
  std::atomic<std::int64_t> last_us_{0};  // 0: none yet
  std::atomic<bool> writing_{false};
};

}  // namespace holdfast::backup
