#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "base/mutex.h"
#include "base/stop.h"

namespace holdfast {

/// Work whose parts become possible while it is done: workers take the heaviest task that is ready,
/// and tasks may add others. With the heaviest first the workers come to the end at about the same
/// time.
class TaskQueue {
 public:
  using Task = std::function<void(std::size_t worker, const Stop& stop)>;

  /// Of tasks of the same weight, the one that was added first goes first.
  void add(std::uint64_t weight, Task task);
  /// Runs all tasks, those that are added meanwhile included, on `workers` threads numbered from 0.
  /// Failures and stops are those of run_workers().
  void run(std::size_t workers, const Stop& stop);

 private:
  struct After {
    using Place = std::pair<std::uint64_t, std::uint64_t>;  // weight, number
    bool operator()(const Place& one, const Place& other) const {
      return one.first != other.first ? one.first > other.first : one.second < other.second;
    }
  };
  /// Waits for a task to be ready; false when there is none and none can come.
  bool take(Task& task, const Stop& stop);
  void finished();

  Mutex mutex_;
  std::condition_variable_any changed_;
  /// The heaviest first, of these the oldest.
  std::map<After::Place, Task, After> ready_ HF_GUARDED_BY(mutex_);
  std::uint64_t added_ HF_GUARDED_BY(mutex_) = 0;
  std::size_t running_ HF_GUARDED_BY(mutex_) = 0;
};

}  // namespace holdfast
