#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "base/mutex.h"
#include "base/stop.h"

namespace holdfast {

/// A queue between threads that holds at most `capacity` items, so that a fast producer waits
/// instead of filling memory.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t capacity) : capacity_(capacity) {}

  /// Waits for room. Returns false, dropping the item, once the queue is closed. Throws Stopped.
  bool push(T item, const Stop& stop) {
    MutexLock lock(mutex_);
    changed_.wait(lock, stop.token(),
                  [&]() HF_REQUIRES(mutex_) { return closed_ || items_.size() < capacity_; });
    stop.check();
    if (closed_) return false;
    items_.push_back(std::move(item));
    changed_.notify_all();
    return true;
  }

  /// Waits for an item; absent once the queue is closed and empty. Throws Stopped.
  std::optional<T> pop(const Stop& stop) {
    MutexLock lock(mutex_);
    changed_.wait(lock, stop.token(),
                  [&]() HF_REQUIRES(mutex_) { return closed_ || !items_.empty(); });
    stop.check();
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    changed_.notify_all();
    return item;
  }

  /// Nothing more will be pushed; what is queued can still be popped.
  void close() {
    MutexLock lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  const std::size_t capacity_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<T> items_ HF_GUARDED_BY(mutex_);
  bool closed_ HF_GUARDED_BY(mutex_) = false;
};

}  // namespace holdfast
