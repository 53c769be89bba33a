#include "base/worker_pool.h"

#include <exception>
#include <optional>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"

namespace holdfast {

namespace {

/// What went wrong first, and the switch that tells the other workers.
class FirstFailure {
 public:
  void failed(std::exception_ptr error) {
    {
      MutexLock lock(mutex_);
      if (!error_) error_ = std::move(error);
    }
    source_.request(StopReason::None);
  }
  void stopped(StopReason reason) {
    {
      MutexLock lock(mutex_);
      if (!stopped_) stopped_ = Stopped{reason};
    }
    source_.request(reason);
  }
  void rethrow() {
    MutexLock lock(mutex_);
    if (error_) std::rethrow_exception(error_);
    if (stopped_) throw Stopped{stopped_->reason};
  }
  StopSource& source() { return source_; }

 private:
  StopSource source_;
  Mutex mutex_;
  std::exception_ptr error_ HF_GUARDED_BY(mutex_);
  std::optional<Stopped> stopped_ HF_GUARDED_BY(mutex_);
};

}  // namespace

void run_workers(std::size_t workers, const Stop& stop,
                 const std::function<void(std::size_t, const Stop&)>& work) {
  FirstFailure failure;
  std::stop_callback forward(stop.token(), [&] { failure.source().request(stop.reason()); });
  {
    std::vector<std::jthread> threads;
    threads.reserve(workers);
    for (std::size_t number = 0; number < workers; ++number) {
      threads.emplace_back([&, number, tag = log::thread_tag()] {
        log::ThreadTag thread_tag(tag);
        try {
          work(number, failure.source().stop());
        } catch (const Stopped& s) {
          failure.stopped(s.reason);
        } catch (...) {
          failure.failed(std::current_exception());
        }
      });
    }
  }
  failure.rethrow();
}

}  // namespace holdfast
