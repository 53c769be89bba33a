#pragma once

#include <mutex>

// Clang's thread-safety annotations (checked by the lint build with -Wthread-safety); nothing under
// GCC.
#if defined(__clang__)
#define HF_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define HF_THREAD_ANNOTATION(x)
#endif
#define HF_GUARDED_BY(mutex) HF_THREAD_ANNOTATION(guarded_by(mutex))
#define HF_REQUIRES(mutex) HF_THREAD_ANNOTATION(requires_capability(mutex))

namespace holdfast {

/// std::mutex with annotations; satisfies Lockable, so std::condition_variable_any waits on it.
class HF_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  void lock() HF_THREAD_ANNOTATION(acquire_capability()) { mutex_.lock(); }
  void unlock() HF_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }
  bool try_lock() HF_THREAD_ANNOTATION(try_acquire_capability(true)) { return mutex_.try_lock(); }

 private:
  std::mutex mutex_;
};

/// Locks for the length of a scope; can be unlocked and locked again, as condition variables do.
class HF_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) HF_THREAD_ANNOTATION(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() HF_THREAD_ANNOTATION(release_capability()) {
    if (locked_) mutex_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  void lock() HF_THREAD_ANNOTATION(acquire_capability()) {
    mutex_.lock();
    locked_ = true;
  }
  void unlock() HF_THREAD_ANNOTATION(release_capability()) {
    locked_ = false;
    mutex_.unlock();
  }

 private:
  Mutex& mutex_;
  bool locked_ = true;
};

}  // namespace holdfast
