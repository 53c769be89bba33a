#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "backup/wal_archiver.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "jobs/job.h"
#include "postgres/lsn.h"

namespace holdfast::backup {

/// How one WAL archive stands, as its job saw it last.
struct WalArchiveState {
  WalArchiveMode mode = WalArchiveMode::Maps;
  postgres::TimelineId timeline = 0;  ///< that the server is on
  postgres::Lsn archived{};           ///< everything before is in the collection
  std::optional<Time> archived_time;  ///< when everything written until then was
  std::uint64_t lag_bytes = 0;        ///< written by the server, not in the collection
  std::uint64_t protected_bytes = 0;  ///< that the slot keeps in the server
  std::string waiting_for;            ///< "PostgreSQL: …", "storage: …"; empty while it works
};

/// What running WAL ARCHIVE jobs tell the statements and the metrics. Thread-safe.
class WalArchiveBoard {
 public:
  void set(jobs::JobId job, const WalArchiveState& state) {
    MutexLock lock(mutex_);
    states_[job] = state;
  }
  void remove(jobs::JobId job) {
    MutexLock lock(mutex_);
    states_.erase(job);
  }
  std::optional<WalArchiveState> find(jobs::JobId job) const {
    MutexLock lock(mutex_);
    const auto found = states_.find(job);
    if (found == states_.end()) return std::nullopt;
    return found->second;
  }

 private:
  mutable Mutex mutex_;
  std::map<jobs::JobId, WalArchiveState> states_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::backup
