#include "base/task_queue.h"

#include <utility>

#include "base/worker_pool.h"

namespace holdfast {

void TaskQueue::add(std::uint64_t weight, Task task) {
  {
    MutexLock lock(mutex_);
    ready_.emplace(std::pair(weight, added_++), std::move(task));
  }
  changed_.notify_one();
}

void TaskQueue::run(std::size_t workers, const Stop& stop) {
  run_workers(workers, stop, [this](std::size_t worker, const Stop& worker_stop) {
    Task task;
    while (take(task, worker_stop)) {
      // When it throws, the others are stopped.
      task(worker, worker_stop);
      task = nullptr;
      finished();
    }
  });
}

bool TaskQueue::take(Task& task, const Stop& stop) {
  MutexLock lock(mutex_);
  // Whoever still runs may add some.
  changed_.wait(lock, stop.token(),
                [&]() HF_REQUIRES(mutex_) { return !ready_.empty() || running_ == 0; });
  stop.check();
  if (ready_.empty()) return false;
  task = std::move(ready_.begin()->second);
  ready_.erase(ready_.begin());
  ++running_;
  return true;
}

void TaskQueue::finished() {
  {
    MutexLock lock(mutex_);
    if (--running_ != 0 || !ready_.empty()) return;
  }
  changed_.notify_all();
}

}  // namespace holdfast
